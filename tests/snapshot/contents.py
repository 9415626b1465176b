"""What the snapshot holds: for each section its items, and for each item a plain value of every kind."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import groupby
from typing import Any

import numpy as np
from shared_data import SHARED
from snapshot import doors

Section = dict[str, dict[str, Any]]  # item, kind, value

SEED = 20
NUM_ITEMS = 200
NUM_LONG = 20  # of these, with several questions about one clip
NUM_CONSTRAINED = 10
NUM_BLIND = 100
SUMMED = ("true", "tokens", "cut", "blind")  # answers of which the figures are computed
SHAPES = {"num_frames": 8, "size": (36, 48), "image_size": (40, 32)}
NUM_FRAMES = 6  # sampled of the 8
# The rooms are small, so that some answers have to be short.
BUDGETS = {"text": (12, 24), "phrases_with_boxes": (24, 64), "sentences_with_spans": (24, 64)}
PARITY, REAL_MEDIA = SHARED / "parity" / "public", SHARED / "real_media"

_TOKEN = re.compile(r"<([txy])_(\d+)>")
_PUBLISHED_AXES = {"TEMP": ("temporal", "t"), "HEIGHT": ("spatial_height", "y"), "WIDTH": ("spatial_width", "x")}


def pack(values: list[int] | list[float]) -> str:
    """Write numbers as one text, runs of equal ones as `-100*412`; floats by `repr`."""
    runs = ((value, len(list(run))) for value, run in groupby(values))
    return " ".join(f"{value!r}*{count}" if count > 1 else repr(value) for value, count in runs)


def write_canonical(value: Any) -> str:
    """Write a value as JSON in the one form that is hashed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def hash_value(value: Any) -> str:
    """Return a short hash of a value."""
    return hashlib.sha256(write_canonical(value).encode()).hexdigest()[:16]


def hash_array(array: np.ndarray) -> str:
    """Return a hash of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


@cache
def get_processor() -> Any:
    """Return the processor that ships."""
    return doors.load_processor()


# ST-Shapes ----------------------------------------------------------------------------------------------------------


def compute_shapes(task: str, step: int = 1) -> Section:
    """Take questions of ST-Shapes, in steps, from the record to the scores of its answers; where it is all, sum up."""
    records = doors.generate_records(task, NUM_ITEMS - NUM_LONG, SEED, step, **SHAPES)
    records += doors.generate_records(task, NUM_LONG, SEED + 1, step, num_questions=3, **SHAPES)
    protocols = doors.list_protocols(task)
    blind = None
    if protocols:
        blind = doors.fit_blind_answer(task, doors.generate_records(task, NUM_BLIND, SEED + 2, **SHAPES))
    section: Section = {"all": {}} if protocols and step == 1 else {}
    scores: dict[str, dict[str, list[dict]]] = {name: {} for name in protocols}
    for index, record in zip(range(0, NUM_ITEMS, step), records, strict=True):
        item = section[str(index)] = _describe_record(record)
        media = doors.get_media(record, NUM_FRAMES)
        turns = doors.read_conversation(record, media)
        question = doors.describe_question(record, media)
        start = question["start"] if task == "elc" else None
        start = None if start is None else media[0].seconds_at(start)
        truth = turns[-1][1]
        answers = {name: doors.parse(text, media[0], task, start) for name, text in _list_answers(item, record)}
        item["parsed"] = {
            "question": question,
            "turns": _to_plain_turns(turns),
            "answer": doors.to_plain(answers["tokens"]),
        }
        item["malformed"] = {
            name: _drop_media(doors.to_plain(answer))
            for name, answer in answers.items()
            if name not in ("true", "tokens")
        }
        if protocols:
            text = doors.write_blind_answer(blind, task, question, media[0])
            answers["blind"] = doors.parse(text, media[0], task, start)
            item["scores"] = {"blind_answer": text}
        for protocol in protocols:
            item["scores"][protocol] = {
                name: doors.score(protocol, task, answer, truth) for name, answer in answers.items()
            }
            for name, values in item["scores"][protocol].items():
                if name in SUMMED:
                    scores[protocol].setdefault(name, []).append(values)
        if protocols:
            item["scores"]["failures"] = {name: doors.name_failure(task, answer) for name, answer in answers.items()}
        if index < NUM_CONSTRAINED:
            item["prompt"] = doors.render_question(get_processor(), record)
            item["pixels"] = doors.hash_pixels(record)
            item["coco"] = doors.to_coco(truth)
            item["constrained_answer"] = _constrain(task, index, record)
    if "all" in section:
        section["all"]["figures"] = {
            protocol: {name: doors.compute_figures(protocol, task, rows) for name, rows in by_answer.items()}
            for protocol, by_answer in scores.items()
        }
    return section


def _describe_record(record: Any) -> dict[str, Any]:
    batch = doors.collate(get_processor(), record, num_frames=NUM_FRAMES)
    return {
        "training_text": doors.get_messages(record),
        "input_ids": pack(batch["input_ids"]),
        "offsets": pack(batch["offsets"]),
        "labels": pack(batch["labels"]),
    }


def _list_answers(item: dict[str, Any], record: Any) -> Iterator[tuple[str, str]]:
    """Yield the true answer as it is written, in tokens, and spoilt in several ways."""
    yield "true", item["training_text"][-1]["content"]
    learnt = re.split(r"-100(?:\*\d+)?", item["labels"])[-2]  # what is behind the last answer is not learnt
    ids = [int(label) for run in learnt.split() for label in _unpack(run)]
    text = doors.decode(get_processor(), ids)
    yield "tokens", text
    yield from spoil(text)


def _unpack(run: str) -> list[str]:
    label, _, count = run.partition("*")
    return [label] * int(count or 1)


def _to_plain_turns(turns: list[tuple[Any, Any]]) -> list[list[dict]]:
    return [[_drop_media(doors.to_plain(result)) for result in turn] for turn in turns]


def _drop_media(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "media"}


def spoil(text: str) -> Iterator[tuple[str, str]]:
    """Yield an answer with one thing wrong, by name; text without coordinates gets some, or loses words."""
    tokens = list(_TOKEN.finditer(text))
    if not tokens:
        yield "cut", text[: len(text) // 2]
        yield "brackets", f"] {text} {{"
        yield "range", f"{text} [<x_1><y_2><x_100><y_40>]"
        yield "words", " ".join(text.split()[::2])
        yield "lost", ""
        yield "swapped", f"{text} {{<t_9><t_3>}}"
        return
    first, middle = tokens[0], tokens[len(tokens) // 2]
    yield "cut", text[: middle.start() + 3]
    yield "brackets", text.translate(str.maketrans("[]{}", "{}[]"))
    yield "range", f"{text[: middle.start()]}<{middle[1]}_100>{text[middle.end() :]}"
    yield "words", f"{text[: first.end()]} and then {text[first.end() :]}"
    yield "lost", text[: middle.start()] + text[middle.end() :]
    if len(tokens) == 1:
        yield "swapped", f"{text} {text}"
    else:
        second = tokens[1]
        between = text[first.end() : second.start()]
        yield "swapped", text[: first.start()] + second[0] + between + first[0] + text[second.end() :]


def _constrain(task: str, index: int, record: Any) -> dict[str, Any]:
    """Answer with scores that are hashes, within the grammar."""
    facts = doors.list_tasks()[task]
    every_frame = index % 2 == 1
    budgets = BUDGETS.get(facts["answer_format"], (96, 256))
    ids, allowed, result = doors.constrain(
        get_processor(), record, partial(make_scores, f"{task} {index}"), NUM_FRAMES, budgets[index % 2], every_frame
    )
    answer = ids[-len(allowed) :]
    return {
        "input_ids": pack(ids[: -len(allowed)]),
        "answer_ids": pack(answer),
        "num_allowed": pack([len(choices) for choices in allowed]),
        "allowed": hash_value(allowed),
        "result": _drop_media(result),
    }


def make_scores(name: str, step: int, size: int) -> np.ndarray:
    """Return scores (float32) from 0 to 1 that a name and a step fix on every machine; those of one step differ."""
    seed = int(hashlib.sha256(f"{name} {step}".encode()).hexdigest()[:8], 16)
    # Multiplying by an odd number permutes the numbers below a power of two: no two tokens have the same score.
    mixed = (np.arange(size, dtype=np.uint64) * np.uint64(2654435761 | 1) + np.uint64(seed)) % np.uint64(2**22)
    mixed = (mixed * np.uint64(seed | 1)) % np.uint64(2**22)
    return (mixed / 2**22).astype(np.float32)


# Prompts ------------------------------------------------------------------------------------------------------------


def compute_prompts() -> Section:
    """Write the prompt of every task in every wording, in fractions and in units."""
    section: Section = {}
    clip = np.zeros((12, 90, 160, 3), np.uint8)
    units = {"span": (0.1, 0.35), "box": (16, 9.5, 120, 80), "start": 0.125}
    fractions = {"span": (0.25, 1 / 3), "box": (0.1, 0.123456789, 0.7, 1.0), "start": 1e-5}
    for task, facts in doors.list_tasks().items():
        for kind in ("video", "image") if facts["media_type"] == "any" else (facts["media_type"],):
            for variant in range(facts["num_prompts"]):
                for name, values in (("units", units), ("fractions", fractions)):
                    arguments: dict[str, Any] = {kind: clip if kind == "video" else clip[0], "variant": variant}
                    for need in facts["needs"]:
                        arguments.update(_name_argument(need, name, values))
                    section[f"{task} {kind} {variant} {name}"] = _describe_prompt(task, arguments)
                    if "query" in facts["needs"]:
                        arguments["query"] = "What does the man hold at <t=0.2> {<t_3><t_20>}?"
                        section[f"{task} {kind} {variant} {name} question"] = _describe_prompt(task, arguments)
        section[task] = {"facts": facts}
    return section


def _name_argument(need: str, unit: str, values: dict[str, Any]) -> dict[str, Any]:
    if need == "query":
        return {"query": "the man in the red hat"}
    if unit == "fractions":
        return {"start_fraction" if need == "start" else f"{need}_fractions": values[need]}
    return {"start_seconds" if need == "start" else need: values[need]}


def _describe_prompt(task: str, arguments: dict[str, Any]) -> dict[str, Any]:
    processor = get_processor()
    messages = doors.build_messages(processor, task, **arguments)
    inputs = doors.expand(processor, messages, open_turn=True, **({"num_frames": 4} if "video" in arguments else {}))
    return {
        "prompt": doors.render(processor, messages, open_turn=True),
        "note": doors.get_note(messages),
        "input_ids": pack(inputs["input_ids"][0]),
        "offsets": pack(inputs["offsets"][0]),
    }


# Conversations of every shape ---------------------------------------------------------------------------------------


def compute_conversations() -> Section:
    """Expand conversations that ST-Shapes has none of: units, tokens, media in the middle, several media, refusals."""
    processor = get_processor()
    clip, picture = np.zeros((12, 90, 160, 3), np.uint8), np.zeros((50, 100, 3), np.uint8)
    box = "[<x=10px><y=0.2><x_50><y=45px>]"
    records = {
        "units": ("stvg", "video", [clip], ["When? <t=1.2s>", "{<t=0.4s><t=2s>} <t=0.2>:[<x_1><y_2><x=80px><y_99>]"]),
        "tokens": ("tvg", "video", [clip], ["When is it like {<t_3><t_50>}?", "{<t_0><t_99>}"]),
        "edges": ("tvg", "video", [clip], ["When?", "{<t=0><t=1>} {<t=0.9999999999><t=1.0>} {<t=1e-9><t=0.5>}"]),
        "video in the middle": ("conversation", "video", [clip], ["See <video> here, at <t=1s>.", "I see."]),
        "image in the middle": ("rec", "image", [picture], ["Where in <image>\nis it?", box]),
        "two images": (
            "conversation",
            "image",
            [picture, picture],
            ["<image> and <image>, which?", f"The first {box}"],
        ),
        "no media": ("conversation", "text", [], ["What is <x=0.5>?", "A coordinate, like <y=0.25>."]),
        "turns": ("conversation", "video", [clip], ["Who? <t=0.1>", "He <t_4>.", "And {<t=0.5><t=0.6>}?", "She."]),
        "plain brackets": ("igc", "image", [picture], ["Is {a} in [b] <c> <p=0.05>?", "<x_axis> {1} [2, 3] <"]),
        "reversed": ("rec", "image", [picture], ["Where?", "[<x=0.1><y=0.1><x=0.9><y=0.2>] [<x_9><y_9><x_3><y_2>]"]),
    }
    section: Section = {}
    for name, fields in records.items():
        record = doors.make_record(*fields)
        media = doors.get_media(record, NUM_FRAMES)
        section[name] = {
            **_describe_record(record),
            "parsed": _to_plain_turns(doors.read_conversation(record, media)),
        }
    long = doors.make_record("dvc", "video", [clip], ["What?", ", ".join(["{<t=0.1><t=0.5>}, a ball rolls"] * 20)])
    for limit in (300, 305, 310):
        batch = doors.collate(processor, long, num_frames=NUM_FRAMES, truncation=True, max_length=limit)
        section[f"cut at {limit}"] = {name: pack(values) for name, values in batch.items()}
    questions = ("<q=1s>", "<t=2>", "<t=abc>", "<x_100>", "{<t=0.5><t=0.1>}", "[<x=0.1><y=0.1>]", "<t=99s>", "<t:3>")
    section["refused"] = {
        "questions": {
            text: doors.is_refused(processor, [{"role": "user", "content": _blocks(clip, f"When {text}?")}])
            for text in (*questions, "<x=0.5s>", "<x=5000px>", "<p=0.05>", "<image>", "fine <t=0.5>")
        }
    }
    batch = [
        [{"role": "user", "content": _blocks(clip, f"When is {name}?")}] for name in ("it", "the long one of <t_5>")
    ]
    inputs = doors.expand(processor, batch, open_turn=True, num_frames=[4, 6], video_fps=24)
    section["batch"] = {
        "input_ids": [pack(row) for row in inputs["input_ids"]],
        "media": [
            [doors.to_plain(doors.parse("", medium, None))["media"] for medium in media] for media in inputs["media"]
        ],
    }
    return section


def _blocks(clip: Any, text: str, kind: str = "video") -> list[dict]:
    return [{"type": kind, kind: clip}, {"type": "text", "text": text}]


def compute_numbers() -> Section:
    """Split, write and refine single numbers."""
    fractions = [
        0.0,
        1.0,
        1 / 3,
        0.5,
        0.0101,
        1 / 99,
        0.99999999999,
        5e-324,
        1 - 2**-53,
        *(k / 99 for k in range(100)),
    ]
    peaks = ([0.1, 0.7, 0.2], [0.7, 0.2, 0.1], [0.0, 0.0, 1.0], [0.4, 0.3, 0.3], [0.0, 0.0, 0.0])
    return {
        "bins": {
            str(size): " ".join(f"{token}+{offset!r}" for token, offset in doors.split_into_bins(fractions, size))
            for size in (2, 10, 100)
        },
        "written": {
            unit: "".join(
                doors.write_coordinate("t" if unit == "seconds" else "x", value, unit) for value in fractions
            )
            for unit in ("fraction", "seconds", "pixels")
        },
        "refined": {
            f"{peak} {winner}": doors.refine(peak, winner) for peak in map(list, peaks) for winner in range(3)
        },
        "frames": {
            f"{count} of {first} to {last}": pack(doors.spread_frames(count, first, last))
            for count in (1, 2, 8, 20, 100)
            for first, last in ((0, 0), (0, 1), (5, 90), (0, 999), (17, 116))
        },
    }


# Recordings of the published code -----------------------------------------------------------------------------------


def compute_parity_cases() -> Section:
    """Expand the conversations of all recorded runs."""
    section: Section = {}
    for path in sorted(PARITY.glob("*/cases/*.json")):
        case = json.loads(path.read_text())
        model = path.parents[1]
        processor = _load_published(model, case["fast_overwrite_fix"], case["width_input_fix"])
        conversations = [_fill(s["templated_conversation"], s["variables"]) for s in case["samples"]]
        name = f"{model.name}/{path.stem}"
        section[name] = _expand_turns(processor, conversations)
        if output := case.get("output_text"):
            text = _rename(output[0] if isinstance(output, list) else output)
            medium = doors.make_media(640, 360, list(range(0, 100, 10)), [index / 25 for index in range(0, 100, 10)])
            section[name]["parsed"] = doors.to_plain(doors.parse(text, medium, None))
    return section


def compute_parity_texts() -> Section:
    """Expand the recorded texts, their template tokens filled in."""
    recorded = json.loads((PARITY / "unit" / "text_pipeline.json").read_text())
    processor = _load_published((PARITY / "unit" / recorded["tokenizer"]).resolve().parent, False, False)
    variables = {
        f"{name}_{side}_locations": [0.1, 0.2, 0.7, 0.9]
        for name, _ in _PUBLISHED_AXES.values()
        for side in ("input", "output")
    }
    section: Section = {}
    for case in recorded["cases"]:
        turns = [
            {**turn, "value": re.sub(r"<(im|vid)_start>.*<\w*_end>", _put_back, turn["value"])}
            for turn in case["train_expanded"]
        ]
        section[case["name"]] = _expand_turns(processor, [_fill(turns, variables)])
    return section


def _put_back(match: re.Match) -> str:
    return "<image>" if match[1] == "im" else "<video>"


@cache
def _load_published(model: Any, fast: bool, width: bool) -> Any:
    overrides = json.loads((model / "tiny_overrides.json").read_text())
    return doors.load_published_processor(
        model, overrides["temporal_scale_factor"], overrides["fast_frame_num"], fast, width
    )


def _fill(conversation: list[dict], variables: dict[str, list[float]]) -> list[tuple[str, str]]:
    """Write the fractions of a recorded conversation into the places of its template tokens."""
    left = {name: iter(values) for name, values in variables.items()}

    def fill(match: re.Match) -> str:
        name, letter = _PUBLISHED_AXES[match[1]]
        return f"<{letter}={next(left[f'{name}_{match[2].lower()}_locations'])!r}>"

    return [
        (turn["from"], _rename(re.sub(r"<(TEMP|HEIGHT|WIDTH)-(INPUT|OUTPUT)>", fill, turn["value"] or "")))
        for turn in conversation
    ]


def _rename(text: str) -> str:
    """Write the coordinate tokens of the published code in our spelling."""
    return re.sub(
        r"<(TEMP|HEIGHT|WIDTH)-(\d+)>", lambda match: f"<{_PUBLISHED_AXES[match[1]][1]}_{int(match[2])}>", text
    )


def _expand_turns(processor: Any, conversations: list[list[tuple[str, str]]]) -> dict[str, Any]:
    """Expand conversations; one that ends with an empty answer is a question."""
    media = {"image": doors.make_picture(50, 40), "video": np.zeros((30, 8, 8, 3), np.uint8)}
    batch, open_turn = [], False
    for turns in conversations:
        open_turn = turns[-1] == ("gpt", "")
        messages = []
        for speaker, text in turns[:-1] if open_turn else turns:
            match = re.match(r"<(image|video)>\n", text)
            content = _blocks(media[match[1]], text[match.end() :], match[1]) if match else text
            messages.append({"role": "user" if speaker == "human" else "assistant", "content": content})
        batch.append(messages)
    inputs = doors.expand(processor, batch, open_turn=open_turn)
    return {
        "prompt": [doors.render(processor, messages, open_turn) for messages in batch],
        "input_ids": [pack(row) for row in inputs["input_ids"]],
        "offsets": [pack(row) for row in inputs["offsets"]],
        "labels": None if inputs["said"] is None else [pack(row) for row in inputs["said"]],
    }


def compute_parity_metrics(task: str) -> Section:
    """Read and score the recorded answers of a task."""
    section: Section = {"all": {}}
    scores: dict[str, list[dict]] = {name: [] for name in doors.list_protocols(task)}
    lines = (PARITY / "metrics" / f"{task}.jsonl").read_text().splitlines()
    for index, row in enumerate(map(json.loads, lines)):
        medium, text = _write_truth(task, row)
        truth = doors.parse(text, medium, task, medium.start_seconds if task == "elc" else None)
        answers = {
            name: doors.parse(_rename(row[name]), medium, task)
            for name in ("outputs", "converted_outputs")
            if row[name] and not _is_reversed(row[name])
        }
        section[str(index)] = {
            "parsed": {name: _drop_media(doors.to_plain(answer)) for name, answer in answers.items()},
            "scores": {
                protocol: doors.score(protocol, task, answers["outputs"], truth)
                for protocol in scores
                if "outputs" in answers
            },
            "failures": {name: doors.name_failure(task, answer) for name, answer in answers.items()},
        }
        for protocol, values in section[str(index)]["scores"].items():
            scores[protocol].append(values)
    section["all"]["figures"] = {name: doors.compute_figures(name, task, rows) for name, rows in scores.items()}
    return section


def _is_reversed(text: str) -> bool:
    """Tell whether a text has a reversed span of plain numbers, for which reading it raises."""
    spans = re.findall(r"\{\s*([\d.]+)\s*,\s*([\d.]+)\s*\}", text)
    return any(float(start) > float(end) for start, end in spans)


def _write_truth(task: str, row: dict) -> tuple[Any, str]:
    """Return medium and true answer of a recorded row."""
    if task == "rec":
        edges = zip("xyxy", row["gt_bbox"], strict=True)
        return doors.make_media(row["width"], row["height"]), "[" + "".join(f"<{a}={v}>" for a, v in edges) + "]"
    if task == "tvg":
        frames = doors.spread_frames(100, 0, 990)
        medium = doors.make_media(640, 360, frames, [frame / 25 for frame in frames])
        return medium, "{" + "".join(f"<t={value}>" for value in row["gt"]) + "}"
    first, last = row["split"]
    frames = doors.spread_frames(100, first, last)
    medium = doors.make_media(row["width"], row["height"], frames, [frame / 25 for frame in frames])

    def write_time(frame: float) -> str:
        return f"<t={(frame - first) / (last - first):.9f}>"

    sizes = (row["width"], row["height"]) * 2
    entries = []
    for frame, box in sorted(row["gt"]["svg"].items(), key=lambda entry: int(entry[0])):
        edges = zip("xyxy", box, sizes, strict=True)
        written = "".join(f"<{axis}={min(edge / size, 1):.9f}>" for axis, edge, size in edges)
        entries.append(f"{write_time(int(frame))}:[{written}]")
    tube = ", ".join(entries)
    if task == "svg":
        return medium, tube
    times = [write_time(frame) for frame in row["gt"]["tvg"]]
    if task == "stvg":
        return medium, "{" + "".join(times) + "} " + tube
    caption = row["gt"].get("caption", "it moves.")
    return medium, f"{{{''.join(times)}}}, {caption} Object bounding box: {tube}"


def compute_parity_utilities() -> Section:
    """Do what the recorded helpers of the published code did, where there is a counterpart."""
    section: Section = {}
    clip = doors.make_media(640, 360, list(range(100)), [index / 25 for index in range(100)])
    for index, row in enumerate(json.loads((PARITY / "unit" / "utils.json").read_text())):
        name, arguments = row["func"], row["args"]
        item = section[f"{index} {name}"] = {}
        if name == "replace_and_normalize" and arguments != [None]:
            num_tokens = None if row["kwargs"]["return_token"] else 100
            item["value"] = doors.convert_published_answer(arguments[0], num_tokens)
        elif name == "parse_span_from_text" and arguments != [None]:
            item["value"] = doors.parse_published_span(*arguments)
        elif name == "parse_box_from_text" and arguments != [None]:
            item["value"] = doors.parse_published_box(*arguments)
        elif name in ("iou", "temporal_iou"):
            item["value"] = doors.compute_iou(*arguments)
        if arguments and isinstance(arguments[0], str) and not _is_reversed(arguments[0]):
            item["parsed"] = _drop_media(doors.to_plain(doors.parse(_rename(arguments[0]), clip, None)))
    for index, row in enumerate(json.loads((PARITY / "unit" / "frame_index.json").read_text())):
        first, last = row["split"] or (0, row["video_len"] - 1)
        count = row["n_frms"] if "n_frms" in row else row["num_frames"]
        section[f"frames {index}"] = {"value": pack(doors.spread_frames(count, first, last))}
    return section


# Real media ---------------------------------------------------------------------------------------------------------


def compute_real_media() -> Section:
    """Sample real clips, and ask about them and about photographs."""
    processor = get_processor()
    section: Section = {}
    for number, path in enumerate(sorted(REAL_MEDIA.glob("*.mp4"))):
        for count in (100, 8):
            clip = doors.read_clip(path, count)
            pixels = clip.pop("pixels")
            seconds = clip.pop("frame_seconds")
            indices = clip.pop("frame_indices")
            item = section[f"{path.name} {count}"] = {
                "facts": clip,
                "frame_indices": pack(indices),
                "frame_seconds": pack(seconds),
            }
            if number < 2 and count == 8:
                item["pixels"] = hash_array(pixels)
    rows = [json.loads(line) for line in (REAL_MEDIA / "annotations.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        kind = row["media"]
        arguments = {kind: str(REAL_MEDIA / row["file"])}
        renamed = {"query": "query", "query_span_fraction": "span_fractions", "query_box_fraction": "box_fractions"}
        arguments.update({name: row[key] for key, name in renamed.items() if key in row})
        messages = doors.build_messages(processor, row["task"], **arguments)
        item = section[f"row {index}"] = {
            "prompt": doors.render(processor, messages, open_turn=True),
            "note": doors.get_note(messages),
        }
        for count in (100, 8) if kind == "video" else (None,):
            # Each clip is asked about many times: the long way once is enough.
            if count == 100 and row["file"] in [other["file"] for other in rows[:index]]:
                continue
            options = {} if count is None else {"num_frames": count}
            inputs = doors.expand(processor, messages, open_turn=True, **options)
            item[f"input_ids {count or ''}".strip()] = pack(inputs["input_ids"][0])
            item[f"offsets {count or ''}".strip()] = pack(inputs["offsets"][0])
            if "span_seconds" in row and count == 8:
                item["truth"] = _describe_truth(row, inputs["media"][0][0])
    return section


def _describe_truth(row: dict, medium: Any) -> dict[str, Any]:
    """Write the span of an annotation as fractions, and read it again."""
    start, end = (medium.fraction_at(min(seconds, medium.end_seconds)) for seconds in row["span_seconds"])
    values = doors.to_plain(doors.parse(f"{{<t={start!r}><t={end!r}>}}", medium, "tvg"))
    values["media"]["source"] = None  # where the file lies does not matter
    return values


# All of it ----------------------------------------------------------------------------------------------------------


def list_sections(step: int = 1) -> dict[str, tuple[Callable[[], Section], Any]]:
    """Return for each section what computes it, ST-Shapes in steps, and the folder beside the checkout it needs."""
    return {
        **{f"st_shapes_{task}": (partial(compute_shapes, task, step), None) for task in doors.list_tasks()},
        "prompts": (compute_prompts, None),
        "conversations": (compute_conversations, None),
        "numbers": (compute_numbers, None),
        "parity_cases": (compute_parity_cases, PARITY),
        "parity_texts": (compute_parity_texts, PARITY),
        **{
            f"parity_metrics_{task}": (partial(compute_parity_metrics, task), PARITY)
            for task in ("rec", "tvg", "stvg", "svg", "elc")
        },
        "parity_utilities": (compute_parity_utilities, PARITY),
        "real_media": (compute_real_media, REAL_MEDIA),
    }
