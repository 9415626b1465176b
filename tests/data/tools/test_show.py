import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset
from llava_st_hf.data.tools.show import QUESTION_LABEL, draw_record, merge_turns
from llava_st_hf.data.turns import read_turns
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.visualization import PALETTE


def make(task, media_type, media, question, answer, **fields):
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Sample(id="1", source="s", task=task, media_type=media_type, media=media, messages=messages, **fields)


def draw(sample, path):
    turns = read_turns(sample, probe_media(sample, 20))
    draw_record(sample, turns, path)
    return np.asarray(Image.open(path).convert("RGB")) if path.suffix != ".mp4" else None


def count(pixels, color):
    return int((np.abs(pixels.astype(int) - color).max(axis=-1) < 12).sum())


def test_boxes_of_question_and_answer_have_their_own_colour_and_label(tmp_path):
    image = (Media(frames=np.zeros((200, 200, 3), dtype=np.uint8)),)
    asked = "What is in [<x=0.1><y=0.1><x=0.4><y=0.4>]?"
    sample = make("igc", "image", image, asked, "A dog [<x=0.5><y=0.5><x=0.9><y=0.9>].")
    result = merge_turns(read_turns(sample, probe_media(sample)))
    assert [row.label for row in result.labelled_boxes()] == ["A dog", QUESTION_LABEL]
    pixels = draw(sample, tmp_path / "drawn.png")
    assert pixels.shape == (200, 200, 3)
    for color, (low, high) in zip(PALETTE[:2], ((100, 180), (20, 80)), strict=True):
        for edge in (low, high):
            assert count(pixels[low:high, edge - 2 : edge + 3], color) > 0.8 * (high - low)


def test_spans_of_a_question_are_drawn_where_the_answer_has_none(clip):
    media = (Media(path=str(clip)),)
    described = make("tr", "video", media, "What happens in {<t=0.25><t=0.5>}?", "It moves.")
    found = make("tgc", "video", media, "And after {<t=0.1><t=0.2>}?", "{<t=0.5><t=1>}, it stops.")
    spans = [merge_turns(read_turns(sample, probe_media(sample))).spans for sample in (described, found)]
    assert [(span.fractions) for (span,) in spans] == [pytest.approx((0.25, 0.5)), pytest.approx((0.5, 1))]


@pytest.mark.parametrize("task", sorted(SHAPES_TASKS))
def test_each_task_is_drawn(task, tmp_path):
    sample = ShapesDataset([task], num_samples=1, seed=1)[0]
    pixels = draw(sample, tmp_path / "drawn.png")
    turns = read_turns(sample, probe_media(sample))
    result = merge_turns(turns)
    assert all(not turn.answer.problems for turn in turns)
    if result.spans:
        assert count(pixels, PALETTE[0]) > 500
    if result.boxes or result.tubes:
        assert count(pixels, PALETTE[0]) > 20


def test_several_images_stand_side_by_side(pictures, tmp_path):
    media = tuple(Media(path=path) for path in pictures)
    question = "<image><image><image> Where is the green one?"
    sample = make("rec", "image", media, question, "[<x=0.25><y=0.25><x=0.75><y=0.75>]")
    pixels = draw(sample, tmp_path / "drawn.jpg")
    assert pixels.shape == (480, 3 * 720, 3)
    thirds = [pixels[:, 720 * k : 720 * (k + 1)] for k in range(3)]
    # What is said after the images is about the last of them.
    assert [count(third, PALETTE[0]) > 1000 for third in thirds] == [False, False, True]
    assert [third[5, 5].argmax() for third in thirds] == [0, 1, 2]


def test_a_clip_in_every_form_becomes_a_sheet_and_a_clip(clip, pictures, array_clip, tmp_path):
    answer = "{<t=0.25><t=0.5>} <t=0.25>:[<x=0.1><y=0.1><x=0.6><y=0.6>], <t=0.5>:[<x=0.2><y=0.2><x=0.7><y=0.7>]"
    forms = {
        "path": ((Media(path=str(clip)),), 40, (320, 240)),
        "bytes": ((Media(content=clip.read_bytes()),), 40, (320, 240)),
        "pictures": (tuple(Media(path=path) for path in pictures), 3, (60, 40)),
        "array": ((Media(frames=array_clip),), 6, (46, 32)),
    }
    for name, (media, num_frames, size) in forms.items():
        times = {"pictures": {"frame_seconds": (5.0, 5.5, 7.0)}, "array": {"video_fps": 5.0}}.get(name, {})
        sample = make("stvg", "video", media, "When and where?", answer, **times)
        sheet = draw(sample, tmp_path / f"{name}.png")
        assert count(sheet, PALETTE[0]) > 500
        assert draw(sample, tmp_path / f"{name}.jpg").shape == sheet.shape
        draw(sample, tmp_path / f"{name}.mp4")
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            frames = list(container.decode(video=0))
        assert (len(frames), frames[0].width) == (num_frames, max(size[0], 240))
        assert frames[0].height > size[1]  # the strips beside the picture


def test_frames_without_times_are_not_drawn_at_an_invented_rate(pictures, tmp_path):
    sample = make("tvg", "video", tuple(Media(path=path) for path in pictures), "When?", "{<t=0><t=1>}")
    (media,) = probe_media(sample, 3)
    assert media.problems[0].startswith("unknown_rate")
    with pytest.raises(InputError, match="nothing says when they are, as a file does: give video_fps"):
        draw(sample, tmp_path / "sheet.png")


def test_a_part_of_a_clip_is_drawn_with_its_own_times(clip, tmp_path):
    sample = make("tvg", "video", (Media(path=str(clip)),), "When?", "{<t=0><t=1>}", frame_range=(10, 30))
    (span,) = merge_turns(read_turns(sample, probe_media(sample, 20))).spans
    assert (span.start_seconds, span.end_seconds) == pytest.approx((1.0, 3.0))
    assert count(draw(sample, tmp_path / "sheet.png"), PALETTE[0]) > 1000


@pytest.mark.parametrize("name", ["drawn.gif", "drawn.mp4", "nowhere/drawn.png", "folder.png", "photograph.png"])
def test_outputs_that_cannot_be_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Image.new("RGB", (8, 8)).save("photograph.png")
    before = Path("photograph.png").read_bytes()
    sample = make("conversation", "image", (Media(path="photograph.png"),), "What?", "Nothing.")
    with pytest.raises(InputError, match="output is"):
        draw_record(sample, read_turns(sample, probe_media(sample)), name)
    assert Path("photograph.png").read_bytes() == before


def test_text_has_nothing_to_draw(tmp_path):
    sample = make("conversation", "text", (), "Why?", "Because.")
    with pytest.raises(InputError, match="no medium"):
        draw_record(sample, [], tmp_path / "drawn.png")


def test_real_clips_are_drawn_with_their_boxes(real_media_dir, tmp_path):
    rows = [json.loads(line) for line in (real_media_dir / "annotations.jsonl").read_text().splitlines() if line]
    row = next(row for row in rows if row["media"] == "video" and row.get("boxes_by_second"))
    start, end = row["span_seconds"]
    boxes = ", ".join(
        f"<t={second}s>:[<x={x1}px><y={y1}px><x={x2}px><y={y2}px>]"
        for second, (x1, y1, x2, y2) in row["boxes_by_second"].items()
    )
    media = (Media(path=str(real_media_dir / row["file"])),)
    sample = make("stvg", "video", media, row["query"], f"{{<t={start:.3f}s><t={end - 0.1:.3f}s>}} {boxes}")
    turns = read_turns(sample, probe_media(sample, 100))
    second, box = next(iter(row["boxes_by_second"].items()))
    first = turns[0].answer.tubes[0].boxes[0]
    assert first.seconds == pytest.approx(float(second), abs=1e-6)
    assert first.box.xyxy == pytest.approx(box)
    draw_record(sample, turns, tmp_path / "sheet.png")
    assert count(np.asarray(Image.open(tmp_path / "sheet.png")), PALETTE[0]) > 5000
