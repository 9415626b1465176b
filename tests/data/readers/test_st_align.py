import json
import random
import re

import numpy as np
import pytest
from parity_cases import case_id, parity_cases
from st_align_records import to_st_align

from llava_st_hf.data.readers import st_align
from llava_st_hf.data.readers.st_align import StAlignReader, infer_task
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.skips import RecordError, SkippedRecord
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.tasks_llava_st import TASKS

BOX = "[<WIDTH-{0}><HEIGHT-{0}><WIDTH-{0}><HEIGHT-{0}>]"
OUT_BOX, IN_BOX = BOX.format("OUTPUT"), BOX.format("INPUT")
OUT_SPAN, IN_SPAN = "{<TEMP-OUTPUT><TEMP-OUTPUT>}", "{<TEMP-INPUT><TEMP-INPUT>}"
TUBE = f"<TEMP-OUTPUT>:{OUT_BOX}, <TEMP-OUTPUT>:{OUT_BOX}"

# One hand-written record of each task: medium, question, answer.
RECORDS = {
    "video_captioning": ("video", "Describe the video.", "A child swings a bat."),
    "tvg": ("video", TASKS["tvg"].prompts[0].format(query="she cuts"), OUT_SPAN),
    "dvc": ("video", TASKS["dvc"].prompts[0], f"{OUT_SPAN}, a man enters. {OUT_SPAN}, he leaves."),
    "tr": ("video", TASKS["tr"].prompts[0].format(span=IN_SPAN), "The man puts on a jacket."),
    "rec": ("image", TASKS["rec"].prompts[0].format(query="the dog"), OUT_BOX),
    "dgc": ("image", TASKS["dgc"].prompts[0], f"A woman {OUT_BOX} rides a horse {OUT_BOX}."),
    "rc": ("image", TASKS["rc"].prompts[0].format(box=IN_BOX), "A bowl of carrots."),
    "tgc": ("video", "What does she cut?", f"{OUT_SPAN}, she cuts the carrots."),
    "igc": ("image", "What is the dog doing?", f"The dog {OUT_BOX} waits."),
    "stvg": ("video", TASKS["stvg"].prompts[0].format(query="a dog"), f"{OUT_SPAN} {TUBE}"),
    "elc": (
        "video",
        TASKS["elc"].prompts[0].format(start="<TEMP-INPUT>", box=IN_BOX),
        f"Ends in <TEMP-OUTPUT>, the adult plays. Object bounding box: {TUBE}",
    ),
    "svg": ("video", TASKS["svg"].prompts[0].format(query="the dog", span=IN_SPAN), TUBE),
    "conversation": ("image", "Why do they share an umbrella?", "Because it rains."),
    "video_qa": ("video", "Where is she?", "In the kitchen."),
    "classification": ("video", TASKS["classification"].prompts[0], "Playing the guitar."),
    "tvg_several": ("video", "When does she cut?", f"{OUT_SPAN}, {OUT_SPAN}"),
    "stvg_several": ("video", "When does she cut, and where?", f"{OUT_SPAN}, {OUT_SPAN} {TUBE}; another: {TUBE}"),
}


@pytest.fixture
def folder(tmp_path):
    for name in ("clip.mp4", "one.jpg", "two.jpg", "frames/2.jpg", "frames/10.jpg"):
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).write_bytes(b"not decoded here")
    return tmp_path / "media"


def open_reader(tmp_path, records, **options):
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    return StAlignReader(path, "made up", **{"data_folder": tmp_path / "media", **options})


def make_variables(text, draw):
    """Give each placeholder of a text a value, spans and boxes in order."""
    variables = {name: [] for name in st_align._LISTS.values()}
    for axis, way in re.findall(r"<(TEMP|WIDTH|HEIGHT)-(INPUT|OUTPUT)>", text):
        values = variables[st_align._LISTS[axis, way]]
        values.append(values[-1] + draw.random() * 1e-3 if values else draw.choice([0, 0.1, 1e-05, draw.random() / 2]))
    return variables


def make_record(task, draw=None, **fields):
    medium, question, answer = RECORDS[task]
    return {
        "id": 7,
        medium: "clip.mp4" if medium == "video" else "one.jpg",
        "conversations": [
            {"from": "human", "value": f"<{medium}>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
        "variables": make_variables(question + answer, draw or random.Random(0)),
        **fields,
    }


# ------------------------------------------------------------------------------------------------ the whole way


@pytest.mark.parametrize("task", RECORDS)
def test_every_task_there_and_back(tmp_path, folder, task):
    record = make_record(task)
    sample = open_reader(tmp_path, [record])[0]
    assert isinstance(sample, Sample), sample
    assert (sample.id, sample.source, sample.task) == ("7", "made up", task)
    assert not re.search(
        "-INPUT|-OUTPUT|^<(image|video)>", sample.messages[0]["content"] + sample.messages[1]["content"]
    )
    assert to_st_align(sample, folder) == {**record, "id": "7"}


def test_values_are_consumed_in_the_order_of_the_text(tmp_path, folder):
    record = make_record("elc")
    record["variables"] = {
        "temporal_input_locations": [0.25],
        "temporal_output_locations": [0.5, 0.3, 0.4],
        "spatial_width_input_locations": [0.1, 0.3],
        "spatial_height_input_locations": [0.2, 0.4],
        "spatial_width_output_locations": [0.11, 0.31, 0.12, 0.32],
        "spatial_height_output_locations": [0.21, 0.41, 0.22, 0.42],
    }
    question, answer = (message["content"] for message in open_reader(tmp_path, [record])[0].messages)
    assert question.startswith(" Starts in <t=0.25> , what happened")  # the published spaces stay
    assert "[<x=0.1><y=0.2><x=0.3><y=0.4>]" in question
    assert answer == (
        "Ends in <t=0.5>, the adult plays. Object bounding box: <t=0.3>:[<x=0.11><y=0.21><x=0.31><y=0.41>], "
        "<t=0.4>:[<x=0.12><y=0.22><x=0.32><y=0.42>]"
    )


def test_coordinates_a_little_outside_count_as_the_edge(tmp_path, folder):
    record = make_record("stvg")
    values = {name: list(numbers) for name, numbers in record["variables"].items()}
    values["temporal_output_locations"][:2] = [-0.004, 1.05]
    values["spatial_width_output_locations"][:2] = [-1e-9, 1.02]
    sample = open_reader(tmp_path, [{**record, "variables": values}])[0]
    assert isinstance(sample, Sample), sample
    assert sample.messages[1]["content"].startswith("{<t=0.0><t=1.0>} ")
    assert ":[<x=0.0>" in sample.messages[1]["content"] and "<x=1.0>" in sample.messages[1]["content"]
    ((kind, note),) = sample.notes
    assert kind == "clamped_coordinate" and note.endswith("is 1.02, which counts as the edge")
    assert open_reader(tmp_path, [record])[0].notes == ()


def test_a_thousand_records_there_and_back(tmp_path, folder):
    draw = random.Random(1)
    records = [make_record(draw.choice(list(RECORDS)), draw, id=str(number)) for number in range(1000)]
    for record in records:
        if "video" in record and draw.random() < 0.5:
            record["meta"] = {"split": [draw.randint(0, 9), draw.randint(10, 99)]}
    reader = open_reader(tmp_path, records)
    assert [to_st_align(sample, folder) for sample in reader] == records


@pytest.mark.parametrize(("parity", "name"), parity_cases("train_"), ids=case_id)
def test_recorded_conversations_give_the_published_ids(tmp_path, parity, name):
    case = parity.case(name)
    (tmp_path / "media").mkdir()
    records = []
    for number, (modality, recorded) in enumerate(zip(case.facts["modalities"], case.samples, strict=True)):
        (tmp_path / "media" / f"{number}").touch()
        records.append(
            {
                modality: str(number),
                "conversations": recorded["templated_conversation"],
                "variables": recorded["variables"],
            }
        )
    reader = open_reader(tmp_path, records)
    if isinstance(reader[0], SkippedRecord):  # random bins may make a box whose bottom is above its top
        assert name == "train_vid_discrete" and "has no area" in reader[0].detail
        return
    switches = {"splice_fast_tokens": case.splice_fast_tokens, "embed_width_inputs": case.embed_width_inputs}
    processor = parity.load_processor(**switches)
    expected = case.inputs()
    for row, recorded in enumerate(case.samples):
        pixels = parity.pixels[recorded["media"]]
        blank = np.zeros((len(pixels), *pixels.shape[2:], 3), dtype=np.uint8)
        sample = reader[row]
        inputs = processor.apply_chat_template(
            sample.to_messages([blank if sample.media_type == "video" else blank[0]]),
            tokenize=True,
            return_dict=True,
            return_tensors="np",
            processor_kwargs={"do_sample_frames": False},
        )
        length = int(expected["attention_mask"][row].sum())
        assert inputs["input_ids"][0].tolist() == expected["input_ids"][row, :length].tolist()
        np.testing.assert_allclose(
            inputs["coordinate_offsets"][0], expected["coordinate_offsets"][row, :length], atol=1e-6
        )


# ------------------------------------------------------------------------------------------------ media and text


def test_media_of_every_kind(tmp_path, folder):
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
    records = [
        {"id": "clip", "video": "clip.mp4", "conversations": turns, "meta": {"split": [0, 250.0]}},
        {"id": "frames", "video": "frames", "conversations": turns},
        {"id": "images", "image": ["one.jpg", "two.jpg"], "conversations": turns},
        {"id": "text", "image": None, "conversations": turns},
        {"conversations": turns, "variables": None, "meta": {"split": None}},
    ]
    samples = list(open_reader(tmp_path, records))
    names = [[str(item.path).removeprefix(f"{folder}/") for item in sample.media] for sample in samples]
    assert names == [["clip.mp4"], ["frames/2.jpg", "frames/10.jpg"], ["one.jpg", "two.jpg"], [], []]
    assert [sample.media_type for sample in samples] == ["video", "video", "image", "text", "text"]
    assert [sample.frame_range for sample in samples] == [(0, 250), None, None, None, None]
    assert samples[4].id == "record 4"
    assert [to_st_align(sample, folder).get("video") for sample in samples[:2]] == ["clip.mp4", "frames"]
    assert to_st_align(samples[2], folder)["conversations"][0]["value"] == "<image>\n<image>\nWhat?"


@pytest.mark.parametrize(
    ("media", "question", "expected"),
    [
        ({"video": "clip.mp4"}, "<video>\nWhat?", "What?"),
        ({"video": "clip.mp4"}, "<video>\n Starts?", " Starts?"),
        ({"video": "clip.mp4"}, "<image>\nWhat?", "What?"),
        ({"video": "clip.mp4"}, "What?\n<video>", "What?\n<video>"),
        ({"video": "clip.mp4"}, "<video>", "<video>"),
        ({"image": "one.jpg"}, "<image>\nWhat?", "What?"),
        ({"image": "one.jpg"}, "Where is <image> the dog?", "Where is <image> the dog?"),
        ({"image": ["one.jpg", "two.jpg"]}, "<image>\n<image>\nWhat?", "What?"),
        ({"image": ["one.jpg", "two.jpg"]}, "<image>\nand <image>?", "<image>\nand <image>?"),
        ({"image": "one.jpg"}, "<video>\nWhat?", None),
        ({"image": ["one.jpg", "two.jpg"]}, "<image>\nWhat?", None),
        ({}, "<image>\nWhat?", None),
    ],
)
def test_placeholders_of_media(tmp_path, folder, media, question, expected):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "That."}]
    record = open_reader(tmp_path, [{"id": "1", **media, "conversations": turns}])[0]
    if expected is None:
        assert "hold the placeholders" in record.detail
    else:
        assert record.messages[0]["content"] == expected


def test_published_tokens_become_ours(tmp_path, folder):
    record = make_record("rec")
    record["conversations"][1]["value"] = "[<WIDTH-000><HEIGHT-002><WIDTH-041><HEIGHT-099>] at <TEMP-7>"
    record["variables"] = {}
    sample = open_reader(tmp_path, [record])[0]
    assert sample.messages[1]["content"] == "[<x_0><y_2><x_41><y_99>] at <t_7>"
    assert to_st_align(sample)["conversations"][1]["value"].endswith("<WIDTH-041><HEIGHT-099>] at <TEMP-007>")


# ------------------------------------------------------------------------------------------------ what is refused


def change(**fields):
    def apply(record):
        record.update(fields)

    return apply


def set_list(name, values):
    def apply(record):
        record["variables"][name] = values

    return apply


def set_turn(position, **fields):
    def apply(record):
        record["conversations"][position].update(fields)

    return apply


@pytest.mark.parametrize(
    ("apply", "field", "message"),
    [
        (
            set_list("temporal_output_locations", [0.1, 0.2, 0.3]),
            "variables.temporal_output_locations",
            "has 3 values, but the text has 4 <TEMP-OUTPUT>: give one value for each.",
        ),
        (set_list("temporal_output_locations", [0.1] * 5), "variables.temporal_output_locations", "has 5 values, but"),
        (
            set_list("temporal_input_locations", [0.1]),
            "variables.temporal_input_locations",
            "1 value, but the text has 0",
        ),
        (
            set_list("spatial_height_output_locations", None),
            "variables.spatial_height_output_locations",
            "has 0 values",
        ),
        (set_list("spatial_width_output_locations", 0.5), "variables.spatial_width_output_locations", "give a list"),
        (
            set_list("temporal_output_locations", [0.1, 0.2, "0.1", 0.2]),
            "variables.temporal_output_locations[2]",
            r"locations\[2\] is '0.1': give a fraction from 0 to 1",
        ),
        (
            set_list("temporal_output_locations", [0.1, True, 0.1, 0.2]),
            "variables.temporal_output_locations[1]",
            r"\[1\]",
        ),
        (
            set_list("temporal_output_locations", [0.1, 1.5, 0.1, 0.2]),
            "variables.temporal_output_locations[1]",
            "is 1.5",
        ),
        (
            set_list("temporal_output_locations", [-0.06, 1, 0.1, 1]),
            "variables.temporal_output_locations[0]",
            "is -0.06",
        ),
        (
            set_list("temporal_output_locations", [10**400, 1, 1, 1]),
            "variables.temporal_output_locations[0]",
            r"\[0\] is 1",
        ),
        (set_list("temporal_output_locations", [0.4, 0.2, 0.1, 0.2]), "messages[1].content", "ends before it starts"),
        (set_list("spatial_width_output_locations", [0.3, 0.1, 0.1, 0.3]), "messages[1].content", "has no area"),
        (change(variables=[1]), "variables", r"variables is \[1\]"),
        (change(image="one.jpg"), "video", "image is given too"),
        (change(video=["clip.mp4"]), "video", r"video is \['clip.mp4'\]: give the path"),
        (change(video=None, image=[]), "image", r"image is \[\]"),
        (change(video=3), "video", "video is 3: give the path"),
        (change(video=None, image=["one.jpg", 3]), "image[1]", r"image\[1\] is 3"),
        (change(video="missing.mp4"), "video", "does not exist"),
        (change(video="../records.json"), "video", "lies outside"),
        (change(video="http://a.b/c.mp4"), "video", "download it"),
        (change(video=None, image="frames"), "image", "is the folder"),
        (change(id=[1]), "id", r"id is \[1\]"),
        (change(id=""), "id", "give a text or a whole number"),
        (change(meta=[1]), "meta", r"meta is \[1\]: give an object"),
        (
            change(meta={"split": [1]}),
            "meta.split",
            r"meta.split is \[1\]: give 2 numbers, the first",
        ),
        (change(meta={"split": [0, 1.5]}), "meta.split", "1.5"),
        (change(meta={"split": [9, 3]}), "frame_range", "the first not after the last"),
        (change(conversations="hello"), "conversations", "give a list of objects"),
        (change(conversations=["hello"]), "conversations", "give a list of objects"),
        (change(conversations=[]), "variables.temporal_output_locations", "the text has 0"),
        (change(conversations=[], variables={}), "messages", "take turns"),
        (set_turn(0, **{"from": "bot"}), "conversations[0].from", "is 'bot': give 'human' or 'gpt'"),
        (set_turn(0, **{"from": []}), "conversations[0].from", "give 'human' or 'gpt'"),
        (set_turn(1, value=None), "conversations[1].value", "is None: give a text"),
        (
            set_turn(1, value=OUT_SPAN.replace("OUT", "IN")),
            "conversations[1].value",
            "holds '<TEMP-INPUT>': 'gpt' says it",
        ),
        (set_turn(0, value=OUT_SPAN), "conversations[0].value", "holds '<TEMP-OUTPUT>': 'human' says it"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, folder, apply, field, message):
    record = make_record("stvg")
    apply(record)
    reader = open_reader(tmp_path, [record, make_record("tvg")])
    with pytest.raises(RecordError, match=message) as caught:
        reader.read(0)
    assert caught.value.field == field
    assert isinstance(reader[0], SkippedRecord)
    assert reader[0].source == "made up"
    assert isinstance(reader[1], Sample)


def test_an_answer_is_needed(tmp_path, folder):
    record = make_record("video_qa")
    del record["conversations"][1]
    assert "take turns" in open_reader(tmp_path, [record])[0].detail


def test_a_skipped_record_keeps_its_id(tmp_path, folder):
    records = [{"id": 12, "video": "missing.mp4"}, [1], {"id": {}}]
    assert [skipped.id for skipped in open_reader(tmp_path, records)] == ["12", "record 1", "record 2"]


def test_a_given_task_is_kept_and_checked(tmp_path, folder):
    record = make_record("video_qa")
    assert open_reader(tmp_path, [record], task="classification")[0].task == "classification"
    assert "task 'rec' needs image" in open_reader(tmp_path, [record], task="rec")[0].detail
    with pytest.raises(InputError, match="task is 'vqa': choose one of"):
        open_reader(tmp_path, [record], task="vqa")


# ------------------------------------------------------------------------------------------------ the task


@pytest.mark.parametrize(
    ("media_type", "turns", "task"),
    [
        ("video", ["When?", "It happens in {<t_1><t_2>}."], "tvg"),
        ("video", ["When?", "{<t_1><t_2>}."], "tvg"),
        ("video", ["When?", "Ends in <t_1>."], "elc"),
        ("video", ["Where?", "The child occurs in {<t_1><t_2>}. <t_1>:[<x_1><y_1><x_2><y_2>]"], "stvg"),
        ("video", ["List the events.", "{<t_1><t_2>}, a. {<t_3><t_4>}, b."], "dvc"),
        ("video", ["What next?", "{<t_1><t_2>}, a. {<t_3><t_4>}, b."], "tgc"),
        ("video", ["What next?", "She turns.", "When?", "{<t_1><t_2>}, then."], "tgc"),
        ("video", ["What next?", "She turns.", "Why?", "To see."], "conversation"),
        ("video", ["What is going on?", "She turns."], "video_captioning"),
        ("video", ["When?", "At <t_4>."], "conversation"),
        ("image", ["Who?", "The dog.", "Where?", "Here [<x_1><y_1><x_2><y_2>]."], "igc"),
        ("image", ["Where?", "[<x_1><y_1><x_2><y_2>] [<x_1><y_1><x_2><y_2>]"], "igc"),
        ("image", ["Describe it.", "A dog [<x=0.1><y=0.1><x=0.2><y=0.2>]."], "dgc"),
        ("image", ["Describe it.", "A dog."], "conversation"),
        ("text", ["When?", "{<t_1><t_2>}"], "conversation"),
    ],
)
def test_infer_task(media_type, turns, task):
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": content} for role, content in zip(roles, turns, strict=False)]
    assert infer_task(messages, media_type) == task
    assert TASKS[task].media_type in ("any", media_type)
