"""What only an accelerator shows: bfloat16 answers there are those of the CPU but for rounding, and stay on it."""

import pytest
import torch

from llava_st_hf import GroundingSession, LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.demo import SHIPPED_CHECKPOINT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def processor():
    return LlavaSTProcessor.from_pretrained(SHIPPED_CHECKPOINT)


def ask(processor, device, dtype, constrained):
    model = LlavaSTForConditionalGeneration.from_pretrained(SHIPPED_CHECKPOINT, dtype=dtype).to(device)
    clip = ShapesDataset(["stvg"], 1, seed=11)[0]
    session = GroundingSession(model, processor, video=clip.media[0].frames, video_fps=25.0)
    return session.ask("stvg", query="the red circle moves", constrained=constrained, max_new_tokens=256)


@pytest.mark.parametrize("constrained", [True, False])
def test_float32_answers_are_those_of_the_cpu(processor, constrained):
    answers = [ask(processor, device, torch.float32, constrained) for device in ("cpu", "cuda")]
    assert answers[0].text == answers[1].text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_constrained_answers_in_half_precision_parse(processor, dtype):
    answer = ask(processor, "cuda", dtype, constrained=True)
    assert answer.spans and answer.tubes and not answer.problems


def test_a_training_step_in_bfloat16_is_finite():
    from llava_st_hf.data.collator import LlavaSTDataCollator

    model = (
        LlavaSTForConditionalGeneration.from_pretrained(SHIPPED_CHECKPOINT, dtype=torch.bfloat16).to("cuda").train()
    )
    samples = ShapesDataset(["stvg", "rec"], 4, seed=11)
    batch = LlavaSTDataCollator(LlavaSTProcessor.from_pretrained(SHIPPED_CHECKPOINT))([samples[i] for i in range(4)])
    batch = {name: value.to("cuda") for name, value in batch.items() if hasattr(value, "to") and name != "task_ids"}
    loss = model(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
