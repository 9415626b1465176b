import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_files import encode, rotate_mp4

from llava_st_hf.data.media_probe import probe_image, probe_media, probe_video
from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.data.readers.user_jsonl import UserJsonlReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.skips import SkipReport, TooManySkipsError, read_skip_report
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.tasks_llava_st import TASKS

# The clip has 40 frames of 320 x 240 at 10 frames a second: the last one is shown at 3.9 s.
SPAN = [1.0, 3.0]
BOXES = {"1.0": [10, 20, 50, 60], "2.0": [50, 20, 90, 60], "3.0": [50, 60, 90, 100]}
BOX = [20, 10, 100, 50]  # of an image of 200 x 100
RECORDS = {
    "video_captioning": {"caption": "A red circle crosses the picture."},
    "tvg": {"query": "the circle crosses", "span_seconds": SPAN},
    "dvc": {"caption": "{<t=0s><t=1s>}, the circle starts. {<t=1s><t=3.9s>}, it goes on."},
    "tr": {"span_seconds": SPAN, "caption": "The circle moves."},
    "rec": {"query": "the dog", "box": BOX},
    "dgc": {"caption": "A dog [<x=20px><y=10px><x=100px><y=50px>] and a cat [<x=0><y=0.1><x=0.5><y=0.9>]."},
    "rc": {"box": BOX, "caption": "A dog."},
    "tgc": {"query": "What happens?", "answer": "{<t=1s><t=3s>}, the circle moves."},
    "igc": {"query": "Who is there?", "answer": "A dog [<x=20px><y=10px><x=100px><y=50px>] sleeps."},
    "stvg": {"query": "a circle moves", "span_seconds": SPAN, "boxes": BOXES},
    "elc": {"caption": "the circle moves", "span_seconds": SPAN, "boxes": BOXES},
    "svg": {"query": "the circle", "span_seconds": SPAN, "boxes": BOXES, "task": "svg"},
    "conversation": {"query": "What is it?", "answer": "A circle."},
    "video_qa": {"query": "What is it?", "answer": "A circle.", "task": "video_qa"},
    "classification": {"answer": "Crossing.", "task": "classification"},
    "tvg_several": {"query": "the circle crosses", "span_seconds": [SPAN, [3.5, 3.9]]},
    "stvg_several": {
        "query": "a circle moves",
        "span_seconds": [SPAN, [3.5, 3.9]],
        "boxes": BOXES | {"3.7": [0, 0, 9, 9]},
    },
    "multiple_choice": {
        "query": "What is it?\nOptions:\n(A) a bar\n(B) a circle",
        "answer": "(B) a circle",
        "task": "multiple_choice",
    },
}
IMAGE_TASKS = ("rec", "dgc", "rc", "igc")


@pytest.fixture(scope="module")
def folder(clip, tmp_path_factory):
    """A folder with the clip and a picture of 200 x 100."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    Image.new("RGB", (200, 100)).save(folder / "a.jpg")
    return folder


def read_all(folder: Path, *records, name: str = "mine.jsonl", **options) -> list:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(UserJsonlReader(path, "mine", folder, **options))


def with_media(task: str) -> dict:
    return {**({"image": "a.jpg"} if task in IMAGE_TASKS else {"video": "a.mp4"}), **RECORDS[task]}


def test_the_fields_of_a_record_follow_from_its_task():
    assert list(RECORDS) == list(TASKS)
    for name, record in RECORDS.items():
        given = {"answer" if field == "caption" else field for field in record} - {"task"}
        assert set(TASKS[name].record_fields) == given
        assert all(f"`{field}`" in UserJsonlReader.__doc__ for field in given)


@pytest.mark.parametrize("task", RECORDS)
def test_every_task_is_written_in_the_published_form(folder, task):
    (sample,) = read_all(folder, with_media(task))
    assert isinstance(sample, Sample), sample
    assert (sample.task, sample.id) == (task, "record 0")
    info = (
        probe_image(sample.media[0].path) if sample.media_type == "image" else probe_video(sample.media[0].path, 100)
    )
    result = parse_answer(
        sample.messages[1]["content"],
        info,
        answer_format=TASKS[task].answer_format,
        start_seconds=1.0 if task == "elc" else None,
    )
    assert not result.problems
    assert {coordinate.unit for turn in sample.find_coordinates() for coordinate in turn} <= {"fraction"}
    record = RECORDS[task]
    if "several" in task:
        assert [(s.start_seconds, s.end_seconds) for s in result.spans] == [
            pytest.approx(SPAN),
            pytest.approx((3.5, 3.9)),
        ]
        assert len(result.tubes) == 2 * ("boxes" in record)
        return
    if "span_seconds" in record and task not in ("tr", "svg"):
        assert (result.spans[0].start_seconds, result.spans[0].end_seconds) == pytest.approx(SPAN, abs=1e-9)
    if task in ("tr", "svg"):
        span = parse_answer(sample.messages[0]["content"], info).spans[0]
        assert (span.start_seconds, span.end_seconds) == pytest.approx(SPAN, abs=1e-9)
    if task in ("rec", "dgc", "igc"):
        assert result.boxes[0].xyxy == pytest.approx(BOX, abs=1e-9)
    if task == "rc":
        assert parse_answer(sample.messages[0]["content"], info).boxes[0].xyxy == pytest.approx(BOX, abs=1e-9)
    if "boxes" in record:
        tube = result.tubes[0]
        assert [entry.seconds for entry in tube.boxes] == pytest.approx([i / 10 for i in range(10, 31)])
        for seconds, box in BOXES.items():
            assert tube.box_at(float(seconds)).xyxy == pytest.approx(box, abs=1e-6)
        assert tube.box_at(1.5).xyxy == pytest.approx([30, 20, 70, 60], abs=1e-6)
    if task == "elc":
        assert result.captions[0].text == "the circle moves."
        question = sample.messages[0]["content"]
        assert question.startswith(f" Starts in <t={10 / 39!r}> , what happened about")
        assert parse_answer(question, info).boxes[0].xyxy == pytest.approx(BOXES["1.0"], abs=1e-9)


def test_the_questions_are_the_published_ones(folder):
    questions = {sample.task: sample.messages[0]["content"] for sample in read_all(folder, *map(with_media, RECORDS))}
    assert questions["tvg"] == (
        "Give you a textual query: 'the circle crosses'. When does the described content occur in the video? Please "
        "return the start and end timestamps."
    )
    assert questions["rec"] == "Where can I find the dog in this image?"
    assert questions["tgc"] == "What happens?"
    typed = {**with_media("tvg"), "query": "The circle crosses."}
    assert read_all(folder, typed)[0].messages[0]["content"] == questions["tvg"]
    assert questions["svg"].startswith(f"Between  {{<t={10 / 39!r}><t={30 / 39!r}>}} , where is the circle? Please")


def test_real_annotations_come_back_in_seconds_and_pixels(real_media_dir, tmp_path):
    rows = [json.loads(line) for line in (real_media_dir / "annotations.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["task"] == "stvg"]
    assert len(rows) == 18
    path = tmp_path / "mine.jsonl"
    names = {"boxes_by_second": "boxes", "file": "video"}
    path.write_text(
        "".join(json.dumps({names.get(key, key): value for key, value in row.items()}) + "\n" for row in rows)
    )
    num_boxes = num_at_given_times = 0
    for row, sample in zip(rows, UserJsonlReader(path, "real", real_media_dir), strict=True):
        assert isinstance(sample, Sample), sample
        info = probe_video(sample.media[0].path, 100)
        result = parse_answer(sample.messages[1]["content"], info, answer_format=TASKS[row["task"]].answer_format)
        assert not result.problems
        span = result.spans[0]
        # One of the clips has its first frame at 0.033 s, which is what "from 0 s on" means there.
        expected = np.clip(row["span_seconds"], info.start_seconds, info.end_seconds)
        assert (span.start_seconds, span.end_seconds) == pytest.approx(expected, abs=1e-3)
        assert expected == pytest.approx(row["span_seconds"], abs=0.034)
        times = np.array([float(second) for second in row["boxes_by_second"]])
        boxes = np.array(list(row["boxes_by_second"].values()), dtype=float)
        start, end = span.start_seconds - 1e-6, span.end_seconds + 1e-6
        # Every sampled frame of the span that is not more than half a second beside the boxes has its own.
        wanted = [s for s in info.frame_seconds if start <= s <= end and times[0] - 0.5 <= s <= times[-1] + 0.5]
        tube = result.tubes[0].boxes
        assert [entry.seconds for entry in tube] == pytest.approx(sorted(set(wanted)), abs=1e-9)
        for entry in tube:
            expected = [np.interp(entry.seconds, times, side) for side in boxes.T]
            assert entry.box.xyxy == pytest.approx(expected, abs=1e-3)
            num_boxes += 1
            num_at_given_times += entry.seconds in times
    assert num_boxes > 500 and num_at_given_times > 5


def test_turned_media_are_in_pixels_as_shown(tmp_path):
    rotate_mp4(encode(tmp_path / "a.mp4", width=64, height=48))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    clip, image = read_all(
        tmp_path,
        {"video": "a.mp4", "query": "it", "span_seconds": [0, 1], "boxes": {"0": [0, 32, 24, 64]}},
        {"image": "a.jpg", "query": "it", "box": [0, 32, 24, 64]},
    )
    assert ":[<x=0.0><y=0.5><x=0.5><y=1.0>]" in clip.messages[1]["content"]
    assert image.messages[1]["content"] == "[<x=0.0><y=0.5><x=0.5><y=1.0>]"


def test_a_gap_stays_open(folder):
    boxes = {"1.0": [10, 20, 50, 60], "2.0": None, "3.0": [50, 60, 90, 100]}
    (sample,) = read_all(folder, {**with_media("stvg"), "boxes": boxes})
    tube = parse_answer(sample.messages[1]["content"], probe_video(sample.media[0].path, 100)).tubes[0]
    seconds = [entry.seconds for entry in tube.boxes]
    assert seconds == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 2.5, 2.6, 2.7, 2.8, 2.9, 3.0])


def test_boxes_are_at_the_sampled_frames(folder):
    (sample,) = read_all(folder, with_media("stvg"), num_frames=14)
    tube = parse_answer(sample.messages[1]["content"], probe_video(sample.media[0].path, 14)).tubes[0]
    assert [entry.frame_index for entry in tube.boxes] == [12, 15, 18, 21, 24, 27, 30]


def test_the_start_may_be_named(folder):
    (sample,) = read_all(folder, {**with_media("elc"), "start_seconds": 2.0})
    question = sample.messages[0]["content"]
    assert question.startswith(f" Starts in <t={20 / 39!r}> ")
    assert f"[<x={50 / 320!r}><y={20 / 240!r}>" in question
    assert sample.messages[1]["content"].partition("box: ")[2].startswith(f"<t={20 / 39!r}>:")


def test_fields_that_a_named_task_does_not_use_are_left_alone(folder):
    samples = read_all(
        folder,
        {**with_media("rec"), "span_seconds": [0, 99], "task": "rec"},
        {**with_media("tvg"), "start_seconds": 2.0, "boxes": 3, "task": "tvg"},
        with_media("rec"),
        with_media("tvg"),
    )
    assert [sample.messages for sample in samples[:2]] == [sample.messages for sample in samples[2:]]


def test_times_and_numbers_may_be_written_in_other_ways(folder):
    plain = with_media("stvg")
    boxes = [[float(time), [str(side) for side in box]] for time, box in plain["boxes"].items()]
    others = [
        {"span_seconds": ["00:01.0", "0:03"], "boxes": boxes},
        {"span_seconds": ["1", "3.0"], "boxes": {f"00:0{time}": box for time, box in plain["boxes"].items()}},
        {"span_seconds": ["0:00:01", "00:00:03"]},
        {"box_format": "xywh", "boxes": {t: [b[0], b[1], b[2] - b[0], b[3] - b[1]] for t, b in BOXES.items()}},
        {"unit": "fraction", "boxes": {t: [b[0] / 320, b[1] / 240, b[2] / 320, b[3] / 240] for t, b in BOXES.items()}},
        {
            "unit": "thousandth",
            "boxes": {t: [b[0] / 0.32, b[1] / 0.24, b[2] / 0.32, b[3] / 0.24] for t, b in BOXES.items()},
        },
        {"span_seconds": [SPAN], "task": "stvg"},
    ]
    expected, *found = read_all(folder, plain, *({**plain, **other} for other in others))
    values = [lexeme.value for lexeme in expected.find_coordinates()[1]]
    for sample in found:
        assert isinstance(sample, Sample), sample
        assert sample.messages[0] == expected.messages[0]
        assert [lexeme.value for lexeme in sample.find_coordinates()[1]] == pytest.approx(values)


def test_boxes_of_all_records_may_have_another_form(folder):
    record = {**with_media("rec"), "box": [100, 100, 400, 400]}
    for options, own in (
        ({"unit": "thousandth", "box_format": "xywh"}, {}),
        ({"unit": "fraction"}, {"unit": "thousandth", "box_format": "xywh"}),
    ):
        (sample,) = read_all(folder, {**record, **own}, **options)
        assert sample.messages[1]["content"] == "[<x=0.1><y=0.1><x=0.5><y=0.5>]"
    with pytest.raises(InputError, match="box_format is 'yxyx': choose one of xyxy, xywh"):
        read_all(folder, record, box_format="yxyx")


def test_several_spans_are_in_the_order_of_time(folder):
    (sample,) = read_all(folder, {**with_media("tvg"), "span_seconds": [["00:03", "00:03.9"], [1, 2]]})
    assert sample.task == "tvg_several"
    times = [lexeme.value * 39 for lexeme in sample.find_coordinates()[1]]
    assert times == pytest.approx([10, 20, 30, 39])


def test_a_short_event_has_the_nearest_frame(folder):
    record = {**with_media("stvg"), "span_seconds": [1.01, 1.02]}
    (sample,) = read_all(folder, record)
    (entry,) = parse_answer(sample.messages[1]["content"], probe_video(sample.media[0].path, 100)).tubes[0].boxes
    assert (entry.seconds, entry.box.xyxy) == (pytest.approx(1.0), pytest.approx((10.4, 20, 50.4, 60)))


def test_names_and_tasks_may_be_given(folder):
    samples = read_all(
        folder,
        {**with_media("conversation"), "id": 7},
        {**with_media("conversation"), "id": "x", "task": "video_qa"},
        task="tgc",
    )
    assert samples[0].id == "7"
    assert "Task 'tgc' has answers such as" in samples[0].detail  # and this one has no time
    assert (samples[1].id, samples[1].task) == ("x", "video_qa")


def test_keys_of_others_are_left_alone(folder):
    others = {"source": "s", "width": 320, "fps": 10, "duration": 4.0, "video_id": 3, "boxer": "x", "": 1}
    for record in ({**with_media("tvg"), **others}, {**with_media("conversation"), "answers": ["a", "b"]}):
        (sample,) = read_all(folder, record)
        assert isinstance(sample, Sample), sample


def test_prompts_vary_by_name(folder):
    records = [{**with_media("rec"), "id": str(number)} for number in range(30)]
    prompts = [sample.messages[0]["content"] for sample in read_all(folder, *records, vary_prompts=True)]
    assert len(set(prompts)) == 4
    assert prompts == [sample.messages[0]["content"] for sample in read_all(folder, *records, vary_prompts=True)]


def test_a_folder_of_pictures_has_no_seconds(folder, tmp_path):
    (tmp_path / "frames").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"frames/{number}.png")
    told, asked = read_all(
        tmp_path,
        {"video": "frames", "caption": "Nothing."},
        {"video": "frames", "query": "it", "span_seconds": [0, 1]},
    )
    assert len(told.media) == 3 and not told.has_times
    assert "has no seconds; give video_fps (frames a second) or frame_seconds in the record" in asked.detail


@pytest.mark.parametrize("times", [{"video_fps": 4}, {"frame_seconds": [5.0, 5.25, "00:06"]}, None], ids=str)
def test_pictures_have_the_seconds_that_the_record_says(folder, tmp_path, times):
    (tmp_path / "frames").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"frames/{number}.png")
    start = 5.0 if times and "frame_seconds" in times else 0.0
    record = {"video": "frames", "query": "it", "span_seconds": [start + 0.125, start + 0.25], **(times or {})}
    # The mixture says it of all that do not.
    (sample,) = read_all(tmp_path, record, **({"video_fps": 4} if times is None else {}))
    assert sample.messages[1]["content"] == "{<t=0.25><t=0.5>}"
    assert (sample.video_fps, sample.frame_seconds) == ((None, (5.0, 5.25, 6.0)) if start else (4, None))
    (info,) = probe_media(sample, 3)
    assert info.frame_seconds == ((5.0, 5.25, 6.0) if start else (0.0, 0.25, 0.5)) and not info.problems
    late, few = read_all(
        tmp_path,
        {**record, "video_fps": 4, "frame_seconds": None, "span_seconds": [0, 9]},
        {**record, "video_fps": None, "frame_seconds": [0, 1]},
    )
    assert "outside the clip" in late.detail
    assert "give a time for each of the 3 frames" in few.detail
    (beside,) = read_all(folder, {**with_media("tvg"), "video_fps": 4})
    assert "video_fps is 4: it is of a video that is a folder of pictures" in beside.detail


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"span_seconds": [1.0, 9.0]}, "span_seconds is [1.0, 9.0]: the time 9.0 s is outside the clip"),
        ({"span_seconds": [-1, 3]}, "span_seconds is [-1, 3]"),
        ({"span_seconds": [3, 1]}, "span_seconds is [3, 1]: it ends before it starts"),
        ({"span_seconds": [1]}, "span_seconds is [1]: give 2 numbers"),
        ({"span_seconds": ["1", "two"]}, "span_seconds is [1.0, 'two']"),
        ({"span_seconds": ["1:2:3:4", "1"]}, "span_seconds is ['1:2:3:4', 1.0]"),
        ({"span_seconds": 3}, "span_seconds is 3"),
        ({"span_seconds": [[1, 2], [3]]}, "span_seconds[1] is [3]: give 2 numbers"),
        ({"span_seconds": [[1, 2], [3, 3.9]], "task": "stvg"}, "the record has 2 spans: task 'stvg' needs one"),
        ({"span_seconds": [[1, 2], [3, 3.9]], "query": None, "answer": "a"}, "span_seconds (several) fits no task"),
        ({"boxes": {"1.0": [10, 20, 50]}}, "boxes[1.0] is [10, 20, 50]: give 4 numbers"),
        ({"boxes": {"1.0": [50, 20, 10, 60]}}, "boxes[1.0] is [50, 20, 10, 60]: it has no area"),
        ({"boxes": {"1.0": [10, 20, 330, 60]}}, "boxes[1.0] is [10, 20, 330, 60]: it reaches far out"),
        (
            {"boxes": {"1.0": [400, 20, 500, 60]}},
            "it lies outside of the frame of 320 x 240 pixels; give pixels of the displayed frame, or unit: thou",
        ),
        ({"boxes": {"x": [10, 20, 50, 60]}}, "boxes is 'x'"),
        ({"boxes": {"nan": [10, 20, 50, 60]}}, "boxes is"),
        ({"boxes": {"1": [10, 20, 50, 60], "1.0": None}}, "this time is there twice"),
        ({"boxes": {"9": [10, 20, 50, 60]}}, "the time 9.0 s is outside the clip"),
        ({"boxes": {"0": [10, 20, 50, 60]}}, "none of them at or near a sampled frame"),
        ({"boxes": {"1": None}}, "none of them at or near a sampled frame"),
        ({"boxes": []}, "boxes is []"),
        ({"boxes": [1.0, [10, 20, 50, 60]]}, "boxes is [1.0"),
        ({"boxes": [[1, [10, 20, 50, 60]], ["00:01", None]]}, "boxes is '00:01': this time is there twice"),
        ({"boxes": [[True, [10, 20, 50, 60]]]}, "boxes is True: give the times"),
        ({"boxes": {"1.0": [100, 20, 50, 60]}}, "or box_format: xywh, if it is [left, top, width, height]"),
        ({"box_format": "cxcywh"}, "box_format is 'cxcywh': choose one of xyxy, xywh"),
        ({"unit": "percent"}, "unit is 'percent': choose one of pixels, fraction, thousandth"),
        ({"unit": "fraction", "boxes": None}, "unit is 'fraction': it is of boxes, and none are given"),
        ({"unit": "fraction"}, "boxes[1.0] is [10, 20, 50, 60]: it lies outside of the frame of 1 x 1 fractions"),
        ({"unit": "fraction", "boxes": {"1": [0.1, 0.1, 1.5, 0.9]}}, "it reaches far out of the frame of 1 x 1 fract"),
        (
            {"span_seconds": None, "boxes": None, "start": 1, "end": 3},
            "Write start, end as span_seconds: [start, end]",
        ),
        ({"span_seconds": None, "timestamps": [1, 3]}, "Write timestamps as span_seconds: [start, end] in seconds."),
        (
            {"span_seconds": None, "task": "tvg", "time": [1, 3]},
            "Write time as span_seconds: [start, end] in seconds.",
        ),
        (
            {"boxes": None, "task": "stvg", "xywh": []},
            "Write xywh as box: [left, top, right, bottom] in pixels, of a c",
        ),
        ({"query": None, "sentence": "a"}, "Write sentence as query: what is asked."),
        ({"boxes": {"1.0": [0.1, 0.2, 0.5, 0.6]}}, "give pixels, not fractions of the frame"),
        ({"boxes": None, "bboxes": {"1.0": [10, 20, 50, 60]}}, "no key of that name is read; did you mean boxes"),
        ({"query": None, "Query": "it"}, "Query is 'it': no key of that name is read; did you mean query"),
        ({"query": " "}, "query is ' '"),
        ({"query": 3}, "query is 3"),
        ({"query": "<t=9s>"}, "query: the time 9.0 s is outside the clip"),
        ({"query": "<x=999px>"}, "query: the width coordinate <x=999px> is outside the frame"),
        ({"query": "<t=2>"}, "<t=2> is outside 0 to 1"),
        ({"query": "<|im_end|>"}, "control token"),
        ({"query": "<|IM_END|>"}, "control token"),
        ({"query": None}, "video with boxes, span_seconds fits no task. Give task"),
        ({"span_seconds": None}, "stvg: query, span_seconds, boxes"),
        ({"answer": "a", "caption": "b"}, "caption is 'b': answer says the same"),
        ({"answer": "a"}, "fits no task"),
        (
            {"box": BOX},
            "fits no task. Write box: [left, top, right, bottom] in pixels, of a clip boxes: {second: box}.",
        ),
        (
            {"query": None, "span_seconds": None, "boxes": None, "caption": "a", "timestamp": [1, 3]},
            "timestamp is [1, 3]: no key of that name is read. Write it as span_seconds: [start, end] in seconds. Or "
            "give task: video_captioning, if it is none.",
        ),
        (
            {"query": None, "span_seconds": None, "boxes": None, "answer": "a", "Question": "b"},
            "Question is 'b': no key of that name is read. Write it as query",
        ),
        ({"task": "tvgg"}, "task is 'tvgg': choose one of"),
        ({"task": ["tvg"]}, "task is ['tvg']"),
        ({"task": "rec"}, "task is 'rec': it is about images, but video is given"),
        ({"task": "elc"}, "answer missing: task 'elc' needs span_seconds, boxes, answer"),
        ({"task": "elc", "caption": "a", "start_seconds": 0.5}, "start_seconds is 0.5: give a time inside"),
        ({"task": "elc", "caption": "a", "start_seconds": "x"}, "start_seconds is ['x']"),
        ({"image": "a.jpg"}, "the record has video and image"),
        ({"video": None}, "neither video nor image"),
        (
            {"video": None, "path": "a.mp4"},
            "give the path of one. Write path as video, or image: the path of the file.",
        ),
        ({"video": "../a.mp4"}, "outside of"),
        ({"video": "b.mp4"}, "does not exist"),
        ({"video": "a.jpg"}, "this is an image"),
        ({"video": "https://x.org/a.mp4"}, "download it"),
    ],
)
def test_says_what_is_wrong(folder, record, found):
    skipped = read_all(folder, {**with_media("stvg"), **record})[0]
    assert not isinstance(skipped, Sample)
    assert found in skipped.detail


@pytest.mark.parametrize(
    ("task", "answer", "found"),
    [
        ("dvc", "The circle starts.", "no span"),
        ("dvc", "{<t=3s><t=1s>}, the circle starts.", "caption is"),
        ("dgc", "A dog [<x=20px><y=10px><x=100px>] sleeps.", "caption"),
        ("dgc", "A dog [<x=20px><y=10px><x=100px><y=50px>] at <t=1s>.", "an image has no time"),
        ("dgc", "A dog [<x=20px><y=10px><x=100px><y=<>].", "caption"),
    ],
)
def test_says_what_is_wrong_in_an_answer(folder, task, answer, found):
    skipped = read_all(folder, {**with_media(task), "caption": answer, "task": task})[0]
    assert not isinstance(skipped, Sample)
    assert found in skipped.detail


def test_a_line_that_is_no_object_is_reported(folder):
    path = folder / "broken.jsonl"
    path.write_text('{"video": \n[1]\n' + json.dumps(with_media("tvg")) + "\n")
    broken, no_object, good = UserJsonlReader(path, "mine", folder)
    assert (broken.reason, no_object.reason) == ("invalid_json", "invalid_json")
    assert broken.id == "record 0"
    assert isinstance(good, Sample)


def test_a_data_set_of_rows_leaves_nothing_out_in_silence(folder, tmp_path, caplog):
    pytest.importorskip("datasets")
    good = with_media("conversation")
    read_all(folder, good, {**good, "video": "lost.mp4"}, good, name="rows.jsonl")
    reader = UserJsonlReader(folder / "rows.jsonl", "mine", folder)
    report = SkipReport(tmp_path / "skipped.jsonl", max_skip_share=1)
    assert [row["id"] for row in reader.to_dataset(skip_report=report)] == ["record 0", "record 2"]
    assert [note.id for note in read_skip_report(report.path)] == ["record 1"]
    assert not caplog.text
    assert len(list(reader.to_dataset())) == 2
    assert "record 'record 1' of 'mine' is skipped (missing_media)" in caplog.text
    with pytest.raises(TooManySkipsError):
        list(reader.to_dataset(skip_report=SkipReport(required_sources=["mine"])))


def test_options_are_checked(folder):
    (folder / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="num_frames is 0"):
        UserJsonlReader(folder / "empty.jsonl", "mine", num_frames=0)
    with pytest.raises(InputError, match="task is 'x'"):
        UserJsonlReader(folder / "empty.jsonl", "mine", task="x")


def test_boxes_of_another_unit_are_told_which_key_says_so(folder):
    cases = {"unit: fraction": [0.2, 0.1, 0.6, 0.8], "unit: thousandth": [200, 100, 600, 800]}
    for hint, box in cases.items():
        record = {"video": "a.mp4", "query": "it", "span_seconds": [1, 3], "boxes": {"1": box, "2": box}}
        assert hint in read_all(folder, record)[0].detail


def test_a_file_whose_keys_are_those_of_others_is_told_how_to_write_them(folder):
    (record,) = read_all(folder, {"video": "a.mp4", "question": "it", "start": 1, "end": 2}, name="keys.jsonl")
    assert guess_format(folder / "keys.jsonl") == "user_jsonl"
    found = "fits no task. Write start, end as span_seconds: [start, end] in seconds. Write question as query"
    assert found in record.detail


def test_keys_of_others_are_left_alone_where_the_record_says_it_or_names_its_task(folder):
    said = {"video": "a.mp4", "query": "it", "span_seconds": [1, 3], "text": "b", "time": "noon"}
    image = {"image": "a.jpg", "query": "it", "box": BOX, "time": "noon", "bounding_box": [0, 0, 1, 1]}
    named = {"video": "a.mp4", "caption": "it", "time": "noon", "task": "video_captioning"}
    assert [sample.task for sample in read_all(folder, said, image, named)] == ["tvg", "rec", "video_captioning"]
