"""Open answers for a judge outside of this package, in the form that the public scripts of VCG take."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.atomic_files import write_text_whole

JUDGE_FILE = "judge.json"
_PAIR = ("Q1", "Q2")  # what the names of two questions with one answer end with


def write_judge_file(folder: Path, lines: Sequence[Mapping[str, Any]]) -> bool:
    """
    Write `judge.json`: a list of {`video_name`, `Q`, `A`, `pred`}, or with `Q1`, `Q2`, `pred1`, `pred2` for pairs.

    `video_name` is the name of the item, so that what the public scripts write, {name_0: [{`score`}, ...]}, can be
    read again by the form `judged` of `prediction_forms`, also of a part of the items.

    Args:
        folder (`Path`): Where to write it.
        lines (`Sequence[Mapping[str, Any]]`): The lines of `predictions.jsonl`.

    Returns:
        `bool`: Whether there are open answers, and a file.
    """
    elements: dict[str, dict[str, str]] = {}
    for line in lines:
        if line["task"] != "video_qa" or line["truth"] is None:
            continue
        stem, _, key = line["id"].rpartition(" ")
        name, number = (stem, key[-1]) if key in _PAIR else (line["id"], "")
        element = elements.setdefault(name, {"video_name": name})
        element |= {f"Q{number}": line["question"], "A": line["truth"]["text"], f"pred{number}": line["answer"]}
    if elements:
        write_text_whole(folder / JUDGE_FILE, json.dumps([*elements.values()], indent=1) + "\n")
    return bool(elements)
