"""Reads the tensors recorded from the published code, and puts its inputs into the form of this library.

Every folder beside `public` and every model folder in it is found, so that further recordings need no change here.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from shared_data import SHARED

AXES = (("TEMP", "temporal"), ("HEIGHT", "spatial_height"), ("WIDTH", "spatial_width"))


@dataclass(frozen=True)
class ParityModel:
    """A tiny model of the published system, as recorded."""

    folder: Path

    @cached_property
    def token_ids(self) -> dict[str, int]:
        return json.loads((self.folder / "special_tokens.json").read_text())["ids"]

    @cached_property
    def coordinate_base(self) -> dict[str, int]:
        return json.loads((self.folder / "special_tokens.json").read_text())["coordinate_base"]

    @cached_property
    def axis_sizes(self) -> dict[str, int]:
        facts = json.loads((self.folder / "special_tokens.json").read_text())
        spatial = facts["num_spatial_tokens"]
        return {"TEMP": facts["num_temporal_tokens"], "HEIGHT": spatial, "WIDTH": spatial}

    @cached_property
    def features(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "features.safetensors")

    @cached_property
    def feature_facts(self) -> dict[str, dict]:
        return json.loads((self.folder / "features.json").read_text())

    @cached_property
    def pixels(self) -> dict[str, torch.Tensor]:
        stored = load_file(self.folder / "pixels_int8.safetensors")
        return {name: tensor.float() / 127.5 for name, tensor in stored.items()}

    def case(self, name: str) -> "ParityCase":
        return ParityCase(
            self,
            name,
            json.loads((self.folder / "cases" / f"{name}.json").read_text()),
            load_file(self.folder / "cases" / f"{name}.safetensors"),
        )


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
        variables = (self.facts["variables_passed"] or [{}] * input_ids.shape[0])[row]
        for axis, key in AXES:
            for direction in ("INPUT", "OUTPUT"):
                if axis == "WIDTH" and direction == "INPUT" and not self.embed_width_inputs:
                    continue  # the reference leaves the raw token there
                template = self.model.token_ids[f"<{axis}-{direction}>"]
                places = (input_ids[row] == template).nonzero().flatten().tolist()
                fractions = variables.get(f"{key}_{direction.lower()}_locations", [])
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


def parity_models() -> list[ParityModel]:
    folders = sorted(path.parent for path in SHARED.glob("parity/*/*/model.safetensors"))
    return [ParityModel(folder) for folder in folders]


def parity_cases(prefix: str = "") -> list[tuple[ParityModel, str]]:
    return [
        (model, path.stem)
        for model in parity_models()
        for path in sorted((model.folder / "cases").glob("*.json"))
        if path.stem.startswith(prefix)
    ]


def case_id(value: object) -> str:
    return value.folder.name if isinstance(value, ParityModel) else str(value)
