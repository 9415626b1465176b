"""The media and the questions of inputs go where their tensors go, or are missed; they are never those of others."""

import copy
import io
import pickle

import pytest
import torch

from llava_st_hf.processing.batch_feature_llava_st import GroundingContext, LlavaSTBatchFeature, find_questions
from llava_st_hf.processing.media_llava_st import MediaInfo

MEDIA = [(MediaInfo("video", 64, 48, (0, 5), (0.0, 0.5), "clip.mp4", ("cut short",)), MediaInfo("image", 8, 6))]
CONTEXTS = [GroundingContext("svg", "a dog", span_seconds=(0.1, 0.4))]


@pytest.fixture
def inputs() -> LlavaSTBatchFeature:
    return LlavaSTBatchFeature(
        {"input_ids": [[1, 2, 3]], "coordinate_offsets": [[0.0, 0.5, 0.0]]}, "pt", media=MEDIA, contexts=CONTEXTS
    )


def save_and_load(values):
    file = io.BytesIO()
    torch.save(values, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


WAYS = {
    "itself": lambda inputs: inputs,
    "a dictionary": lambda inputs: {**inputs},
    "moved": lambda inputs: inputs.to("meta"),
    "a dictionary of what was moved": lambda inputs: {**inputs.to("meta")},
    "pickled": lambda inputs: pickle.loads(pickle.dumps(inputs)),
    "a dictionary of what was pickled": lambda inputs: {**pickle.loads(pickle.dumps(inputs))},
    "a pickled dictionary": lambda inputs: pickle.loads(pickle.dumps({**inputs})),
    "a copied dictionary": lambda inputs: copy.deepcopy({**inputs}),
    "a saved dictionary": lambda inputs: save_and_load({**inputs}),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_questions_go_with_the_tensors(inputs, way):
    assert find_questions(WAYS[way](inputs)) == (MEDIA, CONTEXTS)


@pytest.mark.parametrize(
    "change",
    [
        torch.clone,
        lambda ids: ids[:1],
        lambda ids: torch.cat([ids, ids]),
        lambda ids: ids.to("meta"),
        torch.Tensor.tolist,
    ],
    ids=["cloned", "cut", "joined", "moved alone", "listed"],
)
def test_other_ids_have_no_questions(inputs, change):
    assert find_questions({**inputs, "input_ids": change(inputs["input_ids"])}) is None


def test_questions_can_be_set_later(inputs):
    inputs.set_questions([MEDIA[0][:1]], [GroundingContext("tvg")])
    assert find_questions({**inputs}) == ([MEDIA[0][:1]], [GroundingContext("tvg")])


def test_nothing_has_no_questions():
    assert find_questions(None) is None
    assert find_questions({}) is None
    assert find_questions(LlavaSTBatchFeature({"input_ids": [[1]]}, media=MEDIA)) == (MEDIA, [GroundingContext()])


def test_the_model_gets_tensors_only(inputs):
    assert list(inputs) == ["input_ids", "coordinate_offsets"]
    weights = torch.nn.Embedding(4, 2)

    def compute(input_ids, coordinate_offsets):
        return weights(input_ids) * coordinate_offsets[..., None]

    compiled = torch.compile(compute, backend="eager", fullgraph=True)
    assert torch.equal(compiled(**inputs), compute(**inputs))
