import gzip
import json
import pickle
from pathlib import Path

import pytest
from PIL import Image

from llava_st_hf.data.readers.registry import FORMATS, guess_format, open_reader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.media_llava_st import InputError

TURNS = [{"from": "human", "value": "<video>\nWhat is it?"}, {"from": "gpt", "value": "A dog."}]
BENCHMARK = {
    "video_path": "a.mp4",
    "conversations": [
        {"from": "human", "value": "<video>\nWhen is the dog there?"},
        {"from": "gpt", "value": "<s> <e> Object bounding box: <bboxes>"},
    ],
    "meta": {
        "width": 320,
        "height": 240,
        "split": [0, 39],
        "time_token": {"<s>": 0, "<e>": 39},
        "spatial_token": {"<bboxes>": {"0": [0, 0, 10, 10]}},
    },
}
VIDSTG = {
    "vid": "a",
    "frame_count": 40,
    "width": 320,
    "height": 240,
    "used_segment": {"begin_fid": 0, "end_fid": 39},
    "temporal_gt": {"begin_fid": 0, "end_fid": 40},
    "captions": [{"description": "a dog", "target_id": 0}],
    "questions": [],
    "trajectories": [[{"tid": 0, "bbox": {"xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}}]],
}
CANONICAL = {
    "id": "1",
    "source": "s",
    "task": "conversation",
    "media_type": "video",
    "media": [{"path": "a.mp4"}],
    "messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A dog."}],
}
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 320, "height": 240}
ANNOTATION = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
FILES = {
    "st_align": ("a.json", [{"id": 1, "video": "a.mp4", "conversations": TURNS}]),
    "canonical": ("a.jsonl", CANONICAL),
    "st_align_benchmark": ("a.json", [BENCHMARK]),
    "charades_sta": ("a.json", [{"image_id": "a.mp4", "caption": "a dog", "timestamp": [0.1, 0.5]}]),
    "refcoco": ("a.json", {"images": [{**IMAGE, "caption": "dog"}], "annotations": [ANNOTATION], "categories": []}),
    "vidstg": ("a.json", [VIDSTG]),
    "hc_stvg": (
        "a.json",
        {"a.mp4": {"bbox": [[0, 0, 9, 9]], "st_frame": 1, "img_num": 40, "img_size": [240, 320], "English": "A dog."}},
    ),
    "user_jsonl": ("a.jsonl", {"video": "a.mp4", "query": "a dog", "span_seconds": [0, 1]}),
    "coco": (
        "a.json",
        {"images": [IMAGE], "annotations": [ANNOTATION], "categories": [{"id": 1, "name": "dog"}]},
    ),
    "activitynet_captions": ("a.json", {"a": {"duration": 4.0, "timestamps": [[0, 1]], "sentences": ["A dog."]}}),
    "tacos": ("a.json", {"a.avi": {"timestamps": [[0, 9]], "sentences": ["A dog."], "fps": 10.0, "num_frames": 40}}),
    "qvhighlights": (
        "a.jsonl",
        {"qid": 1, "query": "A dog.", "duration": 4, "vid": "a", "relevant_windows": [[0, 1], [2, 3]]},
    ),
    "video_r1": (
        "a.json",
        [{"path": "a.mp4", "problem": "When?", "solution": '<answer>{"time": [0, 1]}</answer>', "problem_id": 1}],
    ),
    "shikra_rec": (
        "a.jsonl",
        {"img_path": "a.jpg", "expression": "dog", "bbox": [0, 0, 9, 9], "width": 320, "height": 240},
    ),
    "coco_video": (
        "a.json",
        {
            "videos": [{"id": 1, "name": "a", "width": 320, "height": 240}],
            "images": [{"id": 1, "video_id": 1, "frame_id": 3, "file_name": "a/3.jpg"}],
            "annotations": [{**ANNOTATION, "track_id": 1}],
            "categories": [{"id": 1, "name": "dog"}],
        },
    ),
    "user_csv": ("a.csv", "video,query,span_seconds\na.mp4,a dog,0-1\n"),
    "mot": ("a.txt", "1,1,0,0,9,9,1,1,1\n"),
    "cvat_video": (
        "a.xml",
        '<annotations><track id="0" label="dog"><box frame="1" outside="0" xtl="0" ytl="0" xbr="9" ybr="9"/></track>'
        "<meta><task><source>a.mp4</source></task></meta></annotations>",
    ),
    "v_star": (
        "a.json",
        [
            {
                "vid": "a",
                "fps": 10.0,
                "width": 320,
                "height": 240,
                "frame_count": 40,
                "temporal_question": "When?",
                "timestamps": [0, 1],
                "spatial_question": "Where?",
                "bboxes": [{"timestamp": 0, "xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}],
            }
        ],
    ),
    "mvbench": ("a.json", [{"video": "a.mp4", "question": "What?", "candidates": ["a", "b"], "answer": "a"}]),
    "vcg": ("a.json", [{"video_name": "a", "Q": "What?", "A": "A dog."}]),
    "vue_stg": ("query.csv", "query_id,query_text,video_id\nq,A dog.,a\n"),
}


@pytest.fixture
def folder(clip, tmp_path):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "a.jpg").touch()
    return tmp_path


def write_file(folder: Path, format: str) -> Path:
    name, content = FILES[format]
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    if format == "vue_stg":
        (folder / "video.csv").write_text("video_id,video_duration\na,4.0\n")
        (folder / "tubes.csv").write_text("query_id,time_ms,x0,y0,x1,y1\nq,1000,0,0,1,1\n")
    return folder / name


@pytest.mark.parametrize("format", FILES)
def test_every_format_is_told_and_read(folder, format):
    path = write_file(folder, format)
    assert guess_format(path) == format
    reader = open_reader(format, path, "mine", data_folder=folder)
    sample, *others = reader
    assert isinstance(sample, Sample), sample
    assert (sample.source, len(reader), len(others)) == ("mine", 1 + len(others), format == "v_star")
    assert pickle.loads(pickle.dumps(reader))[0] == sample


# Formats whose boxes have a size of the frames beside them; the others have none, or boxes as shares of the frame.
NO_SIZE = (
    "st_align",
    "canonical",
    "charades_sta",
    "activitynet_captions",
    "tacos",
    "qvhighlights",
    "video_r1",
    "mvbench",
    "vcg",
    "vue_stg",
)
OWN = {"video": "a.mp4", "query": "a dog", "span_seconds": [0, 1], "boxes": [[0, [0, 0, 9, 9]]]}
SIZED_FILES = {
    **{format: content for format, (_, content) in FILES.items()},
    "user_jsonl": {**OWN, "width": 320, "height": 240},
    "user_csv": 'video,query,span_seconds,boxes,width,height\na.mp4,a dog,0-1,"[[0, [0, 0, 9, 9]]]",320,240\n',
    "cvat_video": FILES["cvat_video"][1].replace(
        "<task>", "<task><original_size><width>320</width><height>240</height></original_size>"
    ),
}


def is_without_boxes(record) -> bool:
    return isinstance(record, Sample) and all(lexeme.kind == "t" for lexeme in record.find_coordinates()[1])


@pytest.mark.parametrize("format", [format for format in FILES if format not in NO_SIZE])
def test_boxes_are_shares_of_the_stated_size(folder, format):
    """The file is of 320 x 240: of a copy of it boxes keep their share, of another file they are not read."""
    Image.new("RGB", (320, 240)).save(folder / "a.jpg")
    path, content = folder / FILES[format][0], SIZED_FILES[format]
    content = content if isinstance(content, str) else json.dumps(content)
    found = {}
    for width, height in ((320, 240), (640, 480), (240, 320)):
        sized = content.replace("320", "WIDTH").replace("240", str(height)).replace("WIDTH", str(width))
        path.write_text(sized)
        (folder / "seqinfo.ini").write_text(f"[Sequence]\nname=a\nimWidth={width}\nimHeight={height}\n")
        records = open_reader(format, path, "mine", data_folder=folder)
        found[width] = next(record for record in records if not is_without_boxes(record))
    right = {
        width: max(lexeme.value for lexeme in found[width].find_coordinates()[1] if lexeme.kind == "x")
        for width in (320, 640)
    }
    assert right[320] in (pytest.approx(9 / 320), pytest.approx(10 / 320))
    assert right[640] == pytest.approx(right[320] / 2)
    assert found[240].reason == "mismatched_media"
    assert "frames of 320 x 240 pixels, but the boxes are of frames of 240 x 320" in found[240].detail


def test_the_table_is_complete():
    assert set(FORMATS) == set(FILES)
    assert all(entry.description and "\n" not in entry.description for entry in FORMATS.values())


@pytest.mark.parametrize(
    ("line", "format"),
    [
        ("a 0.0 1.0##a dog.", "charades_sta"),
        ("\ufeff  AMT7R  0.0  15.5 ## person: 1, 2, 3", "charades_sta"),
        ("1,1,912,484,97,109,0,7,1", "mot"),
        ("1 3 794.27 247.59 71.245 174.88 -1 -1 -1 -1", "mot"),
    ],
)
def test_lines_of_text_are_told(tmp_path, line, format):
    (tmp_path / "a.txt").write_text(f"{line}\n{line}")
    assert guess_format(tmp_path / "a.txt") == format


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (
            "a.json",
            {"version": "5.0", "shapes": [], "imagePath": "a.jpg"},
            "looks like LabelMe, which has no reader: wri",
        ),
        (
            "a.json",
            [{"id": 1, "data": {}, "annotations": []}],
            "looks like Label Studio, which .* write it as user_jsonl",
        ),
        ("a.json", {"_via_img_metadata": {}}, "looks like VIA"),
        (
            "a.json",
            [{"description": "a", "times": [[0, 1]], "num_segments": 6}],
            "DiDeMo, .* write it as qvhighlights",
        ),
        ("a.txt", "0 0.51 0.5 0.25 0.1\n", "looks like YOLO, which has no reader: write it as coco"),
        ("a.txt", "hello there\n", r"its first line is 'hello there'\. Give format="),
        (
            "a.xml",
            "<annotation><object/></annotation>",
            "looks like Pascal VOC, which has no reader: write it as coco",
        ),
        ("a.xml", "<annotations><image id='1'/></annotations>", "looks like CVAT for images"),
        ("a.xml", "<rss><channel/></rss>", "it has rss, channel. Give"),
        (
            "a.csv",
            "clip;label\na;b\n",
            r"it has clip, label\. If it is your own \(user_csv\), each record needs video or image, the path of its "
            r"file\. Write clip as video, or image: the path of the file\. Give",
        ),
        (
            "a.csv",
            "video|query\na|b\n",
            "A table's first line names its columns, parted by commas, semicolons",
        ),
        ("a.csv", "\n", "it has no columns. If it is your own"),
        (
            "a.jsonl",
            {"query": "a", "span_seconds": [1, 2], "file": "a.mp4", "start": 1},
            r"\(user_jsonl\), each record needs video or image.* Write file as video, .* Write start as span_s",
        ),
        ("a.jsonl", {"video": "a.mp4", "label": 1}, "each record needs what is asked or true, such as query"),
        (
            "a.jsonl",
            {"qid": 1, "query": "a", "vid": "b", "duration": 3},
            r"duration, qid, query, vid\. The nearest is qvhighlights \(.*\), without relevant_windows",
        ),
        (
            "a.json",
            {"v": {"timestamps": [[0, 1]], "sentences": ["a"]}},
            "The nearest is activitynet_captions .* duration",
        ),
    ],
)
def test_a_format_without_a_reader_is_named_with_the_nearest(tmp_path, name, content, found):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=found):
        guess_format(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (
            "a.json",
            {"videos": [{"video_id": 0}], "trajectories": {}},
            "looks like VidSTG as TubeDETR prepares it, .* write it as vidstg",
        ),
        ("a.json", {"sequences": [{"annotated_image_paths": []}]}, "looks like BURST, .* write it as coco_video"),
        ("a.json", {"videos": {"v": {"expressions": {}}}}, "looks like expressions of Ref-YouTube-VOS or MeViS"),
        ("groundtruth.txt", "10,20.5,30,40\n11,20,30,40\n", "looks like LaSOT or GOT-10k, .* write it as mot"),
        (
            "a.jsonl",
            {"Video": "a.mp4", "Query": "a", "Span_Seconds": [1, 2]},
            "in lower case: query, span_seconds, vi",
        ),
        # Splits without what is true.
        (
            "a.json",
            {"v.mp4": {"English": "A man.", "img_num": 9}},
            r"nearest is hc_stvg \(.*\), without st_frame, bbox",
        ),
        (
            "a.json",
            {"videos": [{"id": 1}], "categories": [{"id": 1}], "annotations": None},
            r"The nearest is coco_video \(.*\), without annotations",
        ),
        # Records in another place.
        (
            "a.json",
            {"v": {**VIDSTG, "fps": 10, "questions": [{}]}},
            r"vidstg \(.*\), whose keys it has in another place",
        ),
        ("a.json", {"v": [VIDSTG]}, "its 'v' is a list that looks like vidstg: save that list alone as a file"),
    ],
)
def test_other_forms_of_known_data_sets_are_named(tmp_path, name, content, found):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=found):
        guess_format(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.jsonl", [None, FILES["user_jsonl"][1]], "user_jsonl"),
        ("a.jsonl", [{"qid": 0, "query": "a", "vid": "b", "duration": 3}, FILES["qvhighlights"][1]], "qvhighlights"),
        ("a.json", {"u": None, **FILES["activitynet_captions"][1]}, "activitynet_captions"),
        ("a.json", {"u": {"bbox": None}, **FILES["hc_stvg"][1]}, "hc_stvg"),
        ("a.txt", ["# VIDEO start end", "a 0.0 1.0##a dog."], "charades_sta"),
    ],
)
def test_a_first_record_of_no_use_leaves_it_to_the_next(tmp_path, name, content, format):
    if isinstance(content, list):
        content = [line if isinstance(line, str) else json.dumps(line) for line in content]
    (tmp_path / name).write_text("\n".join(content) if isinstance(content, list) else json.dumps(content))
    assert guess_format(tmp_path / name) == format


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.json", b"", r"a\.json is empty: it holds no record\."),
        ("a.jsonl", b"", "is empty"),
        ("a.csv", b"", "is empty"),
        ("a.txt", b"", "is empty"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0), r"is packed \(gzip\): unpack it"),
        ("a.json", b"PK\x03\x04", r"is packed \(zip\)"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", r"is packed \(zstd\)"),
        ("a.yaml", b"datasets: []", "is a YAML file, as mixtures are, .* give one of those"),
        ("a.xlsx", b"PK\x03\x04", r"is a file of a spreadsheet: save the table as \.csv"),
    ],
)
def test_what_holds_no_records_as_it_is_says_so(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    for ask in (guess_format, lambda path: open_reader("user_jsonl", path, "mine"))[: 2 if content else 1]:
        with pytest.raises(InputError, match=found):
            ask(tmp_path / name)


def test_records_by_line_of_a_format_that_is_one_object_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(VIDSTG)}\n" * 2)
    assert guess_format(tmp_path / "a.jsonl") == "vidstg"
    with pytest.raises(InputError, match=r"This format is one JSON list or object.*name it \.json"):
        open_reader("vidstg", tmp_path / "a.jsonl", "mine")


class Trap:
    """Shows that it was unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["refs(unc).p", "a.json"])
def test_a_pickle_is_named_and_never_opened(tmp_path, name, protocol):
    (tmp_path / name).write_bytes(pickle.dumps([{"a": Trap()}], protocol=protocol))
    for ask in (guess_format, lambda path: open_reader("refcoco", path, "mine")):
        with pytest.raises(InputError, match=r"is a pickle, which is never opened.*format refcoco"):
            ask(tmp_path / name)


def test_folders_and_parquet_are_canonical(tmp_path):
    assert guess_format(tmp_path) == guess_format("a.parquet") == guess_format("hf://datasets/a/b") == "canonical"


def test_options_reach_the_reader(folder):
    path = write_file(folder, "vidstg")
    (sample,) = open_reader("vidstg", path, "mine", data_folder=folder, task="tvg", num_frames=7)
    assert sample.task == "tvg"


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("canonical", ["video_fps", "keep_sources", "split"]),  # is written already
        ("coco", ["vary_prompts"]),  # has no clips
        ("charades_sta", ["video_fps", "num_frames"]),  # has one wording
        ("video_r1", ["video_fps", "num_frames"]),  # has questions of its own
        ("user_csv", ["video_fps", "num_frames", "vary_prompts", "box_format", "unit"]),
    ],
)
def test_options_are_those_that_can_act(format, options):
    assert FORMATS[format].reader.list_options() == options


@pytest.mark.parametrize(
    ("arguments", "options", "found"),
    [
        (("vid", "a.json", "mine"), {}, "format is 'vid': choose one of st_align, canonical"),
        (("activitynet", "a.json", "mine"), {}, "The nearest is activitynet_captions"),
        (([], "a.json", "mine"), {}, r"format is \[\]"),
        (("refcoco", "a.json", "mine"), {"frames": 3}, "frames is no option of the format refcoco: it takes vary_p"),
        (("st_align", "a.json", "mine"), {"frames": 3}, "it takes video_fps"),
        (("coco", "lost.json", "mine"), {}, "lost.json"),
    ],
)
def test_says_what_can_be_opened(arguments, options, found):
    with pytest.raises(InputError, match=found):
        open_reader(*arguments, **options)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[{"a": 1, "b": 2}]', "the keys of its first record are a, b. Give format=..., one of st_align, can"),
        ("[]", "a.json holds no record"),
        ("[3]", "the keys of its first record are none"),
        ('{"video": {"a": 1}, "x": []}', "are video, x"),
        ('[{"a": NaN}]', "cannot be read"),
        ("{", "cannot be read"),
        ('{"a": 1}\n{"a": 2}\n', "Name a file with one record per line .jsonl"),
        ("", "a.json"),
    ],
)
def test_says_what_was_seen(tmp_path, content, found):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=found):
        guess_format(tmp_path / "a.json")


def test_says_that_lines_are_empty_or_broken(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no record"):
        guess_format(path)
    path.write_text('{"video":\n {"video": "a.mp4"}\n')
    with pytest.raises(InputError, match=r"first record cannot be read: a\.jsonl, line 1 .* as json\.dumps writes it"):
        guess_format(path)


def test_says_that_there_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"lost\.json"):
        guess_format(tmp_path / "lost.json")


@pytest.mark.parametrize("content", ['[{"video": "a.mp4"}]', '\n[\n {"video": "a.mp4"}\n]\n'])
def test_an_array_under_the_name_of_lines_is_named(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"holds an array, not a record per line: name it \.json"):
        guess_format(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text('[{"video": "a.mp4"}]')
    assert "Name a file that is one array .json" in open_reader("user_jsonl", tmp_path / "b.jsonl", "b")[0].detail


def test_a_table_of_another_delimiter_is_told(tmp_path):
    (tmp_path / "a.tsv").write_text("video\tquery\tspan_seconds\na.mp4\tshe runs\t1-2.5\n")
    assert guess_format(tmp_path / "a.tsv") == "user_csv"
    (tmp_path / "a.csv").write_text("video;query;span_seconds\na.mp4;she runs;1-2.5\n", encoding="utf-16")
    assert guess_format(tmp_path / "a.csv") == "user_csv"
