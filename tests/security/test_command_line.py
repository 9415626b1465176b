"""What somebody else wrote reaches no terminal raw, ends in one line, and is not waited for."""

import json
import os
import re
from pathlib import Path

import pytest
from hostile_process import check_refused, run_commands

import llava_st_cli
from llava_st_cli import main
from llava_st_cli.running import clean
from llava_st_hf import GroundingResult, InputError, MediaInfo
from llava_st_hf.checkpoints.reading import read_config
from llava_st_hf.data import SourceFacts, render_dataset_card
from llava_st_hf.data.readers.registry import guess_format, open_reader
from llava_st_hf.data.skips import check_report
from llava_st_hf.evaluation.reports.document import Table, Text, write_html, write_markdown
from llava_st_hf.hub.cards import render_model_card
from llava_st_hf.processing.grounding_results_llava_st import Caption
from llava_st_hf.processing.image_loading_llava_st import guess_media_type, open_image
from llava_st_hf.utils.checked_settings import read_yaml
from llava_st_hf.utils.markdown import escape_markdown, write_code
from llava_st_hf.visualization import check_output
from llava_st_hf.visualization.result_html import render_page

ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\x08\u202e\x9b31m"


def is_printable(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_configs_of_wrong_types_end_in_one_line(checkpoint, clip, tmp_path):
    """Every door that reads a config: one value at a time is of another type."""
    config = json.loads((checkpoint / "config.json").read_text())
    wrong = [None, [], {"a": 1}, "x" * 10, -1, 1e308, True]
    commands = []
    for number, name in enumerate(["text_config", "vision_config", "coordinate_token_offset", "packer_num_heads"]):
        for value in wrong[number % 2 :: 2]:
            folder = tmp_path / f"{name} {wrong.index(value)}"
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps({**config, name: value}))
            commands.append(["info", "--model", folder])
    for part in ("text_config", "vision_config"):
        for name in ("hidden_size", "num_attention_heads", "model_type"):
            for value in wrong[::2]:
                folder = tmp_path / f"{part}.{name} {wrong.index(value)}"
                folder.mkdir()
                (folder / "config.json").write_text(json.dumps({**config, part: {**config[part], name: value}}))
                commands.append(["info", "--model", folder])
    for content in (b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b"{", b'{"model_type": {}}', b'{"architectures": 3}'):
        folder = tmp_path / f"file {content[:8].hex()} {len(content)}"
        folder.mkdir()
        (folder / "config.json").write_bytes(content)
        commands += [["info", "--model", folder], ["convert", folder, tmp_path / "out"]]
        commands += [["init", tmp_path / "out", "--base", folder], ["ground", clip, "it", "--model", folder]]
    for command, ended in zip(commands, run_commands(commands, tmp_path), strict=True):
        if ended.code != 0:  # some values are as good as others
            check_refused(ended, "file " if "file " in str(command) else "")


def test_pipes_devices_and_folders_are_not_waited_for(clip, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for name in ("pipe.jpg", "pipe.mp4", "pipe.jsonl", "pipe.yaml", "pipe.csv", "pipe.parquet", "config.json"):
        (tmp_path / name).symlink_to(pipe)
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    doors = [
        lambda path: open_image(path),
        lambda path: guess_format(path),
        lambda path: open_reader("user_jsonl", path, "s"),
        lambda path: read_yaml(path, "recipe"),
        lambda path: read_config(path.parent),
        lambda path: check_output(path, [path.suffix]),
        lambda path: check_report(path),
    ]
    for name in ("pipe.jpg", "pipe.jsonl", "pipe.yaml", "pipe.csv", "pipe.parquet", "config.json"):
        for number, door in enumerate(doors):
            if number == 1 and name == "pipe.parquet":  # known by its ending, read by the next
                continue
            with pytest.raises(InputError):
                door(tmp_path / name)
    assert guess_media_type(tmp_path / "pipe.jpg") == "image"
    commands = [
        ["ground", tmp_path / "pipe.mp4", "it"],
        ["ground", tmp_path / "pipe.jpg", "it"],
        ["ground", clip, "--queries", pipe],
        ["ground", clip, "--queries", "/dev/zero"],
        ["ground", clip, "it", "--json", tmp_path / "pipe.jsonl"],
        ["data", "check", tmp_path / "pipe.jsonl"],
        ["data", "check", tmp_path / "pipe.yaml"],
        ["data", "check", folder],
        ["data", "check", tmp_path / "pipe.parquet"],
        ["data", "check", "st-shapes", "--report", "/dev/null"],
        ["train", tmp_path / "pipe.yaml"],
        ["train", folder],
        ["info", "--model", tmp_path],
    ]
    for ended in run_commands(commands, tmp_path):
        check_refused(ended)
    assert not os.path.isfile("/dev/null")


def test_control_characters_are_not_printed(clip, tmp_path, capsys):
    name = f"a{ESCAPES}b"
    (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": ESCAPES, "video": name, "query": ESCAPES}) + "\n")
    (tmp_path / f"{name}.yaml").write_text(f"{ESCAPES}: [")
    for arguments in (
        ["ground", name],
        ["ground", str(clip), "it", "--model", f"./{name}"],
        ["ground", str(clip), "it", f"--{name}"],
        ["ground", str(clip), "it", "--task", name],
        ["ground", str(clip), "it", "--frames", name],
        [f"--{name}"],
        [name],
        ["data", f"--{name}"],
        ["data", "check", str(tmp_path / f"{name}.jsonl")],
        ["data", "show", str(tmp_path / f"{name}.jsonl"), name],
        ["train", str(tmp_path / f"{name}.yaml")],
        ["train", str(tmp_path / f"{name}.yaml"), f"--{name}", "x"],
    ):
        assert main(arguments) != 0
        captured = capsys.readouterr()
        assert is_printable(captured.out + captured.err), (arguments, captured)
    assert is_printable(str(InputError(ESCAPES)))
    assert "می\u200cروم" in str(InputError("می\u200cروم"))


def test_answers_are_printed_without_what_a_terminal_obeys():
    result = GroundingResult(
        f"one\n{ESCAPES}", query=f"{ESCAPES}\nspan: 1.00 s to 2.00 s", captions=(Caption(ESCAPES),)
    )
    assert is_printable(str(result))
    assert is_printable(repr(result))
    assert not any(line.startswith("span:") for line in str(result).splitlines())
    assert is_printable(clean(ESCAPES))


HTML = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
MARKDOWN = f"{HTML} ](http://x) | ` *a* ```\n# title\n[x]: y"


def test_markup_of_others_is_text_in_pages_cards_and_reports():
    page = render_page(GroundingResult(HTML, query=HTML, captions=(Caption(HTML),), task=HTML))
    assert "<script" not in page
    assert "<img src=x" not in page
    cards = [
        render_model_card("converted", source=MARKDOWN),
        render_dataset_card(
            MARKDOWN,
            {MARKDOWN: SourceFacts(MARKDOWN, "MIT", MARKDOWN)},
            {(MARKDOWN, "tvg"): 1},
            {(MARKDOWN, "missing_media"): 1},
            {"video": 1},
        ).split("---", 2)[2],
    ]
    blocks = [Text(MARKDOWN), Table((MARKDOWN,), [(MARKDOWN,)])]
    cards.append(write_markdown(MARKDOWN, blocks))
    report = write_html(HTML, [Text(HTML), Table((HTML,), [(HTML,)])])
    assert "<script>" not in report and "<img src=x" not in report
    for card in cards:
        outside_code = "\n".join(part for part in card.split("````")[::2])
        for line in outside_code.splitlines():
            assert not line.startswith(("# title", "[x]: y")), card
        assert not re.search(r"(?<!\\)\]\(http://x", outside_code.replace(write_code(MARKDOWN), "")), card
        assert HTML not in outside_code.replace(write_code(MARKDOWN), ""), card


def test_what_is_escaped_shows_as_it_is():
    assert escape_markdown("<b>*a*</b> | snake_case _b_ media[0]") == (
        r"&lt;b>\*a\*&lt;/b> \| snake_case \_b\_ media[0]"
    )
    assert escape_markdown("# a\n# b") == r"\# a # b"
    assert escape_markdown("[a](b)") == r"\[a\](b)"
    assert write_code("a`b") == "`` a`b ``"
    assert write_code("a\n```", is_block=True) == "````\na ```\n````"


def test_commands_print_through_what_cleans():
    folder = Path(llava_st_cli.__file__).parent
    found = {path.name: re.findall(r"(?<![\w.])print\(.*", path.read_text()) for path in folder.glob("*.py")}
    del found["running.py"]
    assert {name: lines for name, lines in found.items() if lines} == {
        "app.py": ["print(f\"llava-st-hf {version('llava-st-hf')}\")"]
    }


@pytest.mark.parametrize("value", [7, [["x"]], True])
@pytest.mark.parametrize("name", ["text", "task", "query", "spans", "notes", "source"])
def test_saved_answers_of_other_types_are_refused(name, value):
    media = MediaInfo("image", 64, 48, source="a.png")
    values = GroundingResult("a", query="b", task="rec", media=media, notes=("c",)).to_dict()
    assert GroundingResult.from_dict(values).media == media
    (values["media"] if name == "source" else values)[name] = value
    with pytest.raises(InputError, match="this is not a grounding result"):
        GroundingResult.from_dict(values)
