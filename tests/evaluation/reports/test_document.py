"""Documents as Markdown and as HTML."""

from html.parser import HTMLParser

from run_lines import HOSTILE

from llava_st_hf.evaluation.reports.document import (
    Code,
    Figure,
    Heading,
    Picture,
    Table,
    Text,
    write_html,
    write_markdown,
)

BLOCKS = [
    Heading("part"),
    Text("few items", is_warning=True),
    Table(("item", "value"), [("a|b_c", 1200), ("_d_", None)]),
    Code("llava-st <x>\n```"),
    Figure("tiou", "<svg></svg>", Table(("tiou", "items"), [("0 to 1", 3)]), "A note."),
    Figure("siou", "<svg></svg>", Table(("siou", "items"), [("0 to 1", 4)])),
    Picture("best", b"\xff\xd8", ["what was asked"]),
    Picture("worst", None, ["no picture: gone"]),
]


class Elements(HTMLParser):
    """Lists the elements of a page, and those that were not closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.names, self.open, self.wrong = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        if tag not in ("meta", "br", "img", "rect", "circle", "line", "polyline", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open and self.open.pop() != tag:
            self.wrong.append(tag)


def test_markdown():
    text = write_markdown("a run", BLOCKS)
    for part in (
        "# a run\n\n## part\n\n**Note.** few items\n",
        "| a\\|b_c | 1,200 |",
        "| \\_d\\_  |       |",
        "```\nllava-st <x>\n` ` `\n```",
        "**tiou.** A note.\n\n| tiou   | items |",
        "- worst\n  - no picture: gone",
    ):
        assert part in text, part


def test_html_is_whole_and_asks_for_nothing():
    page = write_html("a run", BLOCKS)
    elements = Elements(page)
    assert (elements.open, elements.wrong) == ([], [])
    assert elements.names.count("figure") == 4
    assert page.count('<div class="grid">') == page.count('<div class="grid wide">') == 1  # side by side
    assert "data:image/jpeg;base64,/9g=" in page
    assert "script" not in elements.names and "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page and 'content="width=device-width' in page


def test_what_others_wrote_is_text():
    blocks = [Heading(HOSTILE), Text(HOSTILE), Table((HOSTILE,), [(HOSTILE,)]), Code(HOSTILE)]
    blocks += [Figure(HOSTILE, "<svg></svg>", Table((), ()), HOSTILE), Picture(HOSTILE, b"", [HOSTILE])]
    page = write_html(HOSTILE, blocks)
    assert "script" not in Elements(page).names
    assert "\x00" not in page
    page.encode()
    text = write_markdown(HOSTILE, [block for block in blocks if not isinstance(block, Code)])
    assert "<script" not in text
    text.encode()


def test_folders_of_this_machine_are_left_out():
    blocks = [
        Text("of /home/me/runs/tiny"),
        Code("evaluate --model /home/me/tiny"),
        Picture("a", None, ["at '/home/me/a.mp4'"]),
    ]
    for text in (write_html("/home/me/runs", blocks), write_markdown("/home/me/runs", blocks)):
        assert "/home" not in text and "of tiny" in text and "--model tiny" in text and "a.mp4" in text
