"""Answers that have ended leave the batch, and the others go on as if they had not."""

import pytest
import torch

from llava_st_hf.inference.batch_decoding import decode_batch
from llava_st_hf.modeling.modeling_llava_st import LlavaSTForConditionalGeneration


@pytest.fixture(scope="module")
def model(checkpoint) -> LlavaSTForConditionalGeneration:
    return LlavaSTForConditionalGeneration.from_pretrained(checkpoint)


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_tokens_are_those_of_generate(model, rows):
    torch.manual_seed(rows)
    ids = torch.randint(0, 200, (rows, 12))
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, : row % 4] = 0
    free = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=24, eos_token_id=None)
    # Tokens that some of the answers have early, so that they end at different times.
    ends = [int(free[row, 12 + 2 * row]) for row in range(min(rows, 5))]
    options = {"attention_mask": mask, "do_sample": False, "max_new_tokens": 24, "eos_token_id": ends}
    sizes = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, given: sizes.append(len(given["input_ids"])), with_kwargs=True
    )
    found = model.generate(ids, custom_generate=decode_batch, **options)
    hook.remove()
    expected = model.generate(ids, **options)
    assert torch.equal(found, expected)
    assert found.shape[1] > 12
    if rows == 9:
        assert len(set(sizes)) > 1  # some have left
