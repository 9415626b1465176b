"""Reads the tensors recorded from the published code, and puts its inputs into the form of this library.

Every folder beside `public` and every model folder in it is found, so that further recordings need no change here.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from shared_data import SHARED

from llava_st_hf import LlavaSTConfig, LlavaSTProcessor

AXES = (("TEMP", "temporal"), ("HEIGHT", "spatial_height"), ("WIDTH", "spatial_width"))


@dataclass(frozen=True)
class ParityModel:
    """A tiny model of the published system, as recorded."""

    folder: Path

    def read_json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text())

    def load_config(self, **settings) -> LlavaSTConfig:
        """Load the published config.json, with what the recording changed in literals of the published code."""
        return LlavaSTConfig.from_pretrained(self.folder, **self.literals, **settings)

    def load_processor(self, **settings) -> LlavaSTProcessor:
        """Load the processor likewise."""
        temporal_stride = self.literals["temporal_stride"]
        processor = LlavaSTProcessor.from_pretrained(self.folder, temporal_stride=temporal_stride, **settings)
        processor.video_processor.num_frames = self.read_json("tiny_overrides.json")["fast_frame_num"]
        return processor

    @cached_property
    def literals(self) -> dict[str, int]:
        values = self.read_json("tiny_overrides.json")
        return {"temporal_stride": values["temporal_scale_factor"], "packer_num_heads": values["packer_num_heads"]}

    @cached_property
    def token_ids(self) -> dict[str, int]:
        """Ids of all tokens that are no ordinary text; a tokenizer may know <image> already."""
        added = self.read_json("tokenizer/tokenizer.json")["added_tokens"]
        return {**{token["content"]: token["id"] for token in added}, **self.read_json("special_tokens.json")["ids"]}

    @cached_property
    def coordinate_base(self) -> dict[str, int]:
        return self.read_json("special_tokens.json")["coordinate_base"]

    @cached_property
    def axis_sizes(self) -> dict[str, int]:
        facts = self.read_json("special_tokens.json")
        spatial = facts["num_spatial_tokens"]
        return {"TEMP": facts["num_temporal_tokens"], "HEIGHT": spatial, "WIDTH": spatial}

    @cached_property
    def features(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "features.safetensors")

    @cached_property
    def feature_facts(self) -> dict[str, dict]:
        return self.read_json("features.json")

    @cached_property
    def pixels(self) -> dict[str, torch.Tensor]:
        stored = load_file(self.folder / "pixels_int8.safetensors")
        return {name: tensor.float() / 127.5 for name, tensor in stored.items()}

    def get_stored(self, name: str, tokens: torch.Tensor) -> torch.Tensor:
        """Return those of the tokens of a medium, (frames, tokens, hidden), of which the recording keeps features."""
        facts = self.feature_facts[name]
        frames = facts["frames_stored_for_vision_projected_lape"]
        return tokens[frames][:, :: facts["token_stride_for_vision_projected_lape"]]

    def case(self, name: str) -> "ParityCase":
        tensors = load_file(self.folder / "cases" / f"{name}.safetensors")
        return ParityCase(self, name, self.read_json(f"cases/{name}.json"), tensors)


@dataclass(frozen=True)
class ParityCase:
    """One recorded run of a [`ParityModel`]: facts in words, and tensors."""

    model: ParityModel
    name: str
    facts: dict
    tensors: dict[str, torch.Tensor]

    @property
    def splice_fast_tokens(self) -> bool:
        return self.facts["fast_overwrite_fix"]

    @property
    def embed_width_inputs(self) -> bool:
        return self.facts["width_input_fix"]

    @property
    def samples(self) -> list[dict[str, Any]]:
        """The recorded samples; what a recording leaves null of their variables is empty here."""
        return [{**sample, "variables": fill_variables(sample["variables"])} for sample in self.facts["samples"]]

    @property
    def variables(self) -> list[dict[str, list[float]]]:
        """The variables that the model was passed for each sample, likewise."""
        passed = self.facts["variables_passed"] or [None] * len(self.facts["samples"])
        return [fill_variables(variables) for variables in passed]

    @property
    def has_all_variables(self) -> bool:
        """Whether the published code took its path with soft targets (llava_qwen.py:186), which needs them all."""
        return bool(self.facts["variables_passed"]) and all(self.facts["variables_passed"])

    def media(self) -> dict[str, torch.Tensor]:
        """Pixels of the case, as the model's arguments."""
        images, videos = [], []
        for modality, sample in zip(self.facts["modalities"], self.facts["samples"], strict=True):
            (images if modality == "image" else videos).append(self.model.pixels[sample["media"]])
        inputs = {}
        if images:
            inputs["pixel_values"] = torch.cat(images)
        if videos:
            inputs["pixel_values_videos"] = torch.stack(videos)
        return inputs

    def inputs(self) -> dict[str, torch.Tensor]:
        """Ids with our placeholders and coordinates, offsets, labels, mask and pixels: arguments of the model."""
        input_ids = self.tensors["input_ids"].clone().long()
        labels = self.tensors["labels"].clone().long() if "labels" in self.tensors else None
        offsets = torch.zeros(input_ids.shape)
        for row in range(input_ids.shape[0]):
            self._place_coordinates(row, input_ids, labels, offsets)
            self._place_media(input_ids[row])
        inputs = {"input_ids": input_ids, "coordinate_offsets": offsets, **self.media()}
        if "attention_mask" in self.tensors:
            inputs["attention_mask"] = self.tensors["attention_mask"].long()
        if labels is not None:
            inputs["labels"] = labels
        return inputs

    def _place_coordinates(self, row: int, input_ids: torch.Tensor, labels, offsets: torch.Tensor) -> None:
        variables = self.variables[row]
        for axis, key in AXES:
            for direction in ("INPUT", "OUTPUT"):
                if axis == "WIDTH" and direction == "INPUT" and not self.embed_width_inputs:
                    continue  # the reference leaves the raw token there
                template = self.model.token_ids[f"<{axis}-{direction}>"]
                places = (input_ids[row] == template).nonzero().flatten().tolist()
                fractions = variables[f"{key}_{direction.lower()}_locations"]
                for place, fraction in zip(places, fractions, strict=False):
                    exact = min(max(fraction, 0.0), 1.0) * (self.model.axis_sizes[axis] - 1)
                    token_id = self.model.coordinate_base[axis] + int(exact)
                    if labels is not None and labels[row, place] == template:
                        labels[row, place] = token_id
                    input_ids[row, place] = token_id
                    offsets[row, place] = exact - int(exact)

    def _place_media(self, row_ids: torch.Tensor) -> None:
        ids = self.model.token_ids
        image = "<image>" if "<image>" in ids else "<im_patch>"
        blocks = [("<im_start>", "<im_end>", image), ("<slow_vid_start>", "<slow_vid_end>", "<slow_vid_start>")]
        if self.splice_fast_tokens:
            blocks.append(("<vid_start>", "<vid_end>", "<slow_vid_start>"))
        original = row_ids.clone()
        for start, end, placeholder in blocks:
            starts = (original == ids[start]).nonzero().flatten().tolist()
            ends = (original == ids[end]).nonzero().flatten().tolist()
            for first, last in zip(starts, ends, strict=True):
                row_ids[first : last + 1] = ids[placeholder]


def fill_variables(variables: dict[str, list[float] | None] | None) -> dict[str, list[float]]:
    """Return variables with a list for each axis and direction."""
    names = [f"{key}_{direction}_locations" for _, key in AXES for direction in ("input", "output")]
    return {name: (variables or {}).get(name) or [] for name in names}


def parity_models() -> list[ParityModel]:
    folders = sorted(path.parent for path in SHARED.glob("parity/*/*/model.safetensors"))
    return [ParityModel(folder) for folder in folders]


def parity_cases(prefix: str = "") -> list[tuple[ParityModel, str]]:
    return [
        (model, path.stem)
        for model in parity_models()
        for path in sorted((model.folder / "cases").glob("*.json"))
        if path.stem.startswith(prefix) and not json.loads(path.read_text())["use_downsample_image"]
    ]


def case_id(value: object) -> str:
    return value.folder.name if isinstance(value, ParityModel) else str(value)
