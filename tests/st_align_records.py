"""Writes records in the form of the ST-Align release, which says whether its reader lost anything of them."""

import os
from pathlib import Path
from typing import Any

from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.notation_llava_st import NOTATION, Lexeme

LISTS = {
    ("TEMP", "INPUT"): "temporal_input_locations",
    ("TEMP", "OUTPUT"): "temporal_output_locations",
    ("HEIGHT", "INPUT"): "spatial_height_input_locations",
    ("HEIGHT", "OUTPUT"): "spatial_height_output_locations",
    ("WIDTH", "INPUT"): "spatial_width_input_locations",
    ("WIDTH", "OUTPUT"): "spatial_width_output_locations",
}
NAMES = {"t": "TEMP", "y": "HEIGHT", "x": "WIDTH"}
SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}


def to_st_align(sample: Sample, data_folder: str | Path | None = None) -> dict[str, Any]:
    """Write a record with placeholders in the text, their values in `variables`; its media are files."""
    variables: dict[str, list[float]] = {name: [] for name in LISTS.values()}

    def replace(coordinate: Lexeme) -> str:
        name = NAMES[coordinate.kind]
        if coordinate.unit == "bin":
            return f"<{name}-{coordinate.value:03d}>"
        direction = {"user": "INPUT", "assistant": "OUTPUT"}[message["role"]]
        variables[LISTS[name, direction]].append(coordinate.value)
        return f"<{name}-{direction}>"

    turns = []
    for message in sample.messages:
        value = NOTATION.replace_coordinates(message["content"], replace)
        turns.append({"from": SPEAKERS[message["role"]], "value": value})
    record: dict[str, Any] = {"id": sample.id}
    if sample.media_type != "text":
        record[sample.media_type] = name_media(sample, data_folder)
        token = f"<{sample.media_type}>"
        if not any(token in turn["value"] for turn in turns):
            first = next(turn for turn in turns if turn["from"] == "human")
            num_tokens = 1 if sample.media_type == "video" else len(sample.media)
            first["value"] = f"{token}\n" * num_tokens + first["value"]
    record["conversations"] = turns
    if sample.frame_range is not None:
        record["meta"] = {"split": list(sample.frame_range)}
    record["variables"] = variables
    return record


def name_media(sample: Sample, data_folder: str | Path | None) -> str | list[str]:
    paths = [item.path for item in sample.media]
    if data_folder is not None:
        paths = [Path(os.path.relpath(path, os.path.realpath(data_folder))).as_posix() for path in paths]
    if sample.media_type == "video" and len(paths) > 1:
        (folder,) = {os.path.dirname(path) for path in paths}
        return folder
    return paths[0] if len(paths) == 1 else paths
