"""From text with continuous coordinates to the published logits: processor and model, called as a user does."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from parity_cases import AXES, ParityCase, case_id, parity_cases, parity_models

from llava_st_hf import LlavaSTForConditionalGeneration

pytestmark = pytest.mark.skipif(not parity_models(), reason="no recordings of the published code beside the checkout")
LETTERS = {"TEMP": "t", "HEIGHT": "y", "WIDTH": "x"}


def to_messages(case: ParityCase) -> list[dict]:
    """Write the recorded conversation as chat messages with coordinates in the text."""
    (sample,), (modality,) = case.samples, case.facts["modalities"]
    fractions: dict[str, Iterator[float]] = {
        f"{axis}-{direction.upper()}": iter(sample["variables"][f"{key}_{direction}_locations"])
        for axis, key in AXES
        for direction in ("input", "output")
    }

    def inline(match: re.Match) -> str:
        axis, kind = match[1], match[2]
        return (
            f"<{LETTERS[axis]}_{int(kind)}>"
            if kind.isdigit()
            else f"<{LETTERS[axis]}={next(fractions[match[0][1:-1]])}>"
        )

    pixels = case.model.pixels[sample["media"]]
    blank = np.zeros((*pixels.shape[:1], *pixels.shape[2:], 3), dtype=np.uint8)
    medium = blank[0] if modality == "image" else blank
    (question,) = [turn["value"] for turn in sample["templated_conversation"] if turn["from"] == "human"]
    text = re.sub(r"<(TEMP|HEIGHT|WIDTH)-(INPUT|OUTPUT|\d+)>", inline, question).removeprefix(f"<{modality}>\n")
    return [{"role": "user", "content": [{"type": modality, modality: medium}, {"type": "text", "text": text}]}]


@pytest.mark.parametrize(
    ("parity", "name"), [case for prefix in ("img", "vid") for case in parity_cases(prefix)], ids=case_id
)
def test_logits_from_text(parity, name):
    case = parity.case(name)
    switches = {"splice_fast_tokens": case.splice_fast_tokens}
    processor = parity.load_processor(**switches, embed_width_inputs=case.embed_width_inputs)
    config = parity.load_config(**switches)
    model = LlavaSTForConditionalGeneration.from_pretrained(parity.folder, config=config).eval()
    inputs = processor.apply_chat_template(
        to_messages(case),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"do_sample_frames": False},
    )
    inputs.update(case.media())
    with torch.no_grad():
        logits = model(**inputs).logits
    rows, columns = case.tensors["logits_pos"].long().T
    torch.testing.assert_close(logits[rows, columns], case.tensors["logits"], atol=1e-4, rtol=0)
