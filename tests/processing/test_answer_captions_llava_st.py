import pytest

from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import MediaInfo

# Token k of time is k / 10 s and frame k; token k of width or height is k pixels.
CLIP = MediaInfo("video", 99, 99, tuple(range(100)), tuple(k / 10 for k in range(100)), source="clip.mp4")
BOX = "[<x_1><y_2><x_30><y_40>]"
SPAN = "{<t_10><t_42>}"
SPAN_SECONDS = (1.0, 4.2)

CAPTIONS = [
    (
        "dense captions",
        "sentences_with_spans",
        "{<t_0><t_10>}, a man sits. {<t_10><t_42>}, he stands, then walks.",
        [("a man sits.", (0.0, 1.0)), ("he stands, then walks.", SPAN_SECONDS)],
    ),
    (
        "sentences with spans at their ends",
        "sentences_with_spans",
        f"There is a man. He sits {{<t_0><t_10>}}. He stands {SPAN}.",
        [("He sits.", (0.0, 1.0)), ("He stands.", SPAN_SECONDS)],
    ),
    (
        "sentence with its span in front",
        "sentences_with_spans",
        f"There is a man. During {SPAN}, he sits.",
        [("During, he sits.", SPAN_SECONDS)],
    ),
    (
        "a malformed span keeps its sentence",
        "sentences_with_spans",
        f"{{<t_9><t_1>}}, a man sits. {SPAN}, he stands.",
        [("a man sits.", None), ("he stands.", SPAN_SECONDS)],
    ),
    (
        "phrases",
        "phrases_with_boxes",
        f"There is much. A man {BOX} holds a cup {BOX}. Behind him a tree {BOX}.",
        [("A man", 1), ("holds a cup", 1), ("Behind him a tree", 1)],
    ),
    ("phrase with two boxes", "phrases_with_boxes", f"two dogs {BOX}, {BOX}", [("two dogs", 2)]),
    ("phrase with a malformed box", "phrases_with_boxes", "a dog [<x_1>]", [("a dog", 0)]),
    (
        "caption with a span",
        "end_caption_and_tube",
        f"{SPAN}, a man sits. Object bounding box: {{<t_10>:{BOX}}}",
        [("a man sits.", SPAN_SECONDS)],
    ),
    (
        "caption without a marker",
        "end_caption_and_tube",
        f"{SPAN}, a man sits. <t_10>:{BOX}",
        [("a man sits.", SPAN_SECONDS)],
    ),
    ("caption alone", "end_caption_and_tube", "a man sits. Object bounding box: ", [("a man sits.", None)]),
    ("no format, boxes", None, f"a dog {BOX}", [("a dog", 1)]),
    ("no format, spans", None, f"{SPAN}, he sits.", [("he sits.", SPAN_SECONDS)]),
    ("span format has no captions", "span", f"It occurs at {SPAN}.", []),
]


@pytest.mark.parametrize("name, answer_format, text, expected", CAPTIONS, ids=[row[0] for row in CAPTIONS])
def test_captions_are_the_words_beside_spans_and_boxes(name, answer_format, text, expected):
    captions = parse_answer(text, CLIP, answer_format=answer_format).captions
    assert [caption.text for caption in captions] == [text for text, _ in expected]
    for caption, (_, place) in zip(captions, expected, strict=True):
        if answer_format == "phrases_with_boxes" or isinstance(place, int):
            assert len(caption.boxes) == place
        elif place is None:
            assert caption.span is None
        else:
            assert (caption.span.start_seconds, caption.span.end_seconds) == pytest.approx(place)
