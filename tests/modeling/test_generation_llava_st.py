"""Every way to decode, each against what forward says, with coordinates in the prompt and among what is generated.

The library's common generation tests are not in its source distribution, so these stand in for them.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from model_inputs import GRID, IMAGE, VIDEO, left_pad, pixels, prompt, video_inputs, video_tokens
from transformers import LogitsProcessor, LogitsProcessorList

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST_COORDINATE = 40
TOTAL_VOCABULARY = 57


@pytest.fixture
def make_generator(make_model):
    """Build the tiny model, set to generate as many tokens as it is asked for."""

    def make(**overrides):
        model = make_model(**overrides)
        model.generation_config.eos_token_id = None
        model.generation_config.suppress_tokens = [IMAGE, VIDEO]  # a prompt that holds them wants media for them
        return model

    return make


def coordinate_prompt(frames: int = 3, seed: int = 0) -> dict:
    """A clip and a question with two coordinates, the first of which lies half-way between two bins."""
    inputs = video_inputs(frames, seed)
    offsets = torch.zeros(inputs["input_ids"].shape)
    offsets[0, -3] = 0.5
    return {**inputs, "coordinate_offsets": offsets, "attention_mask": torch.ones_like(inputs["input_ids"])}


def extend(inputs: dict, tokens: torch.Tensor, offsets: torch.Tensor | None = None) -> dict:
    """Add tokens (batch, new) behind a prompt; generated coordinates lie on their bins."""
    new = tokens.shape[1]
    offsets = torch.zeros(tokens.shape) if offsets is None else offsets
    return {
        **inputs,
        "input_ids": torch.cat([inputs["input_ids"], tokens], -1),
        "coordinate_offsets": torch.cat([inputs["coordinate_offsets"], offsets], -1),
        "attention_mask": F.pad(inputs["attention_mask"], (0, new), value=1),
    }


def suppress(scores: torch.Tensor) -> torch.Tensor:
    """Rule out what `make_generator` rules out; beams have normalised their scores before that."""
    scores = scores.clone()
    scores[..., [IMAGE, VIDEO]] = -torch.inf
    return scores


@torch.no_grad()
def next_scores(model, inputs: dict) -> torch.Tensor:
    return suppress(model(**inputs).logits[:, -1])


def decode_by_hand(model, inputs: dict, steps: int, choose=lambda scores: scores.argmax(-1, keepdim=True)) -> list:
    """Decode one sample, each step a full forward pass."""
    length = inputs["input_ids"].shape[1]
    for _ in range(steps):
        inputs = extend(inputs, choose(next_scores(model, inputs)))
    return inputs["input_ids"][0, length:].tolist()


@torch.no_grad()
def beam_scores(model, inputs: dict, sequences: torch.Tensor, normalize: bool = False) -> torch.Tensor:
    """Scores of the generated part of sequences, all of one prompt, from forward alone: (sequences, steps)."""
    length = inputs["input_ids"].shape[1]
    rows = []
    for sequence in sequences:
        logits = model(**extend(inputs, sequence[None, length:])).logits[0, length - 1 : -1]
        scores = suppress(logits.log_softmax(-1))
        scores = scores.log_softmax(-1) if normalize else scores
        rows.append(scores.gather(-1, sequence[length:, None])[:, 0])
    return torch.stack(rows)


def assert_has_coordinates(tokens) -> None:
    tokens = torch.as_tensor(tokens)
    assert (tokens >= FIRST_COORDINATE).any(), "the test wants a coordinate among the generated tokens"


# One sequence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"cache_implementation": "static", "prefill_chunk_size": 7},
        {"prefill_chunk_size": 7},
        {"prompt_lookup_num_tokens": 2},
        {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()) or "default",
)
def test_greedy_equals_the_full_forward(make_generator, options):
    model = make_generator()
    inputs = coordinate_prompt()
    expected = decode_by_hand(model, inputs, 8)
    assert_has_coordinates(expected)
    output = model.generate(
        **inputs, max_new_tokens=8, do_sample=False, **options, output_scores=True, return_dict_in_generate=True
    )
    assert output.sequences[0, -8:].tolist() == expected
    torch.testing.assert_close(output.scores[0], next_scores(model, inputs), atol=1e-4, rtol=1e-4)
    on_bins = {**inputs, "coordinate_offsets": torch.zeros_like(inputs["coordinate_offsets"])}
    assert not torch.allclose(output.scores[0], next_scores(model, on_bins), atol=1e-2), "the offset does not matter"


def test_prompt_lookup_proposes_coordinates(make_generator):
    model = make_generator()
    model.generation_config.suppress_tokens = [token for token in range(TOTAL_VOCABULARY) if token not in (44, 50)]
    inputs = extend(coordinate_prompt(), torch.tensor([[44, 50, 44, 50, 44]]))
    lengths = []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    plain = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert max(lengths[1:]) == 1
    lengths.clear()
    output = model.generate(**inputs, max_new_tokens=8, do_sample=False, prompt_lookup_num_tokens=3)
    assert output.tolist() == plain.tolist()
    assert max(lengths[1:]) > 1, "no forward pass but the first reads more than one token"


@pytest.mark.parametrize("same_weights", [True, False])
def test_assisted_greedy_equals_greedy(make_generator, make_model, same_weights):
    model, assistant = make_generator(), make_generator()
    if not same_weights:
        with torch.no_grad():
            for parameter in assistant.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    inputs = coordinate_prompt()
    expected = decode_by_hand(model, inputs, 8)
    output = model.generate(**inputs, max_new_tokens=8, do_sample=False, assistant_model=assistant)
    assert output[0, -8:].tolist() == expected


def test_sampling_draws_from_the_probabilities_of_forward(make_generator):
    model = make_generator()
    inputs = coordinate_prompt()
    torch.manual_seed(3)
    expected = decode_by_hand(model, inputs, 8, lambda scores: torch.multinomial((scores / 1.5).softmax(-1), 1))
    assert_has_coordinates(expected)
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(model.generate(**inputs, max_new_tokens=8, do_sample=True, temperature=1.5, top_k=0))
    assert outputs[0][0, -8:].tolist() == outputs[1][0, -8:].tolist() == expected


@pytest.mark.parametrize("options", [{"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.3}, {"typical_p": 0.4}])
def test_warpers_keep_coordinates_and_text_apart_from_none(make_generator, options):
    model = make_generator()
    torch.manual_seed(0)
    output = model.generate(
        **coordinate_prompt(),
        max_new_tokens=6,
        do_sample=True,
        **{"top_k": 0, **options},
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    for scores, logits in zip(output.scores, output.logits, strict=True):
        assert scores.shape == logits.shape == (1, TOTAL_VOCABULARY)
        kept = scores.isfinite()
        assert 1 <= kept.sum() < TOTAL_VOCABULARY
        torch.testing.assert_close(scores[kept], logits[kept])


# Beams and several sequences -------------------------------------------------------------------------------------


def test_wide_beams_find_the_best_of_all_sequences(make_generator):
    model = make_generator()
    inputs = coordinate_prompt()
    length = inputs["input_ids"].shape[1]
    output = model.generate(
        **inputs,
        max_new_tokens=2,
        num_beams=TOTAL_VOCABULARY - 2,  # as many beams as tokens: nothing is cut off
        num_return_sequences=3,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    tokens = [token for token in range(TOTAL_VOCABULARY) if token not in (IMAGE, VIDEO)]
    pairs = torch.cartesian_prod(torch.tensor(tokens), torch.tensor(tokens))
    with torch.no_grad():
        first = model(**inputs).logits[0, -1].log_softmax(-1)
        second = [model(**extend(inputs, torch.tensor([[token]]))).logits[0, -1].log_softmax(-1) for token in tokens]
    everything = (first[tokens, None] + torch.stack(second)[:, tokens]).flatten()  # as pairs
    best = everything.topk(3)
    assert output.sequences[:, length:].tolist() == pairs[best.indices].tolist()
    assert_has_coordinates(pairs[best.indices])
    torch.testing.assert_close(output.sequences_scores, best.values / 2, atol=1e-5, rtol=1e-5)


def test_beams_encode_the_clip_once(make_generator):
    model = make_generator()
    calls = []
    model.model.vision_tower.register_forward_hook(lambda *args: calls.append(1))
    output = model.generate(**coordinate_prompt(), num_beams=3, num_return_sequences=2, max_new_tokens=4)
    assert output.shape[0] == 2
    assert len(calls) == 1


@pytest.mark.parametrize("num_beams", [1, 3])
def test_only_the_features_of_a_clip_are_kept_while_an_answer_is_generated(make_generator, num_beams):
    model = make_generator()
    kept = []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: kept.extend((kwargs["mm_encoder_outputs"] or {}).values()), with_kwargs=True
    )
    model.generate(**coordinate_prompt(), num_beams=num_beams, max_new_tokens=3, output_hidden_states=True)
    assert kept
    assert all(set(outputs) == {"pooler_output"} for outputs in kept)


def test_beam_sampling_returns_what_it_scores(make_generator):
    model = make_generator()
    inputs = coordinate_prompt()
    options = {"num_beams": 4, "num_return_sequences": 4, "do_sample": True, "top_k": 0, "max_new_tokens": 5}
    outputs = []
    for _ in range(2):
        torch.manual_seed(5)
        outputs.append(model.generate(**inputs, **options, output_scores=True, return_dict_in_generate=True))
    output = outputs[0]
    assert output.sequences.tolist() == outputs[1].sequences.tolist()
    assert_has_coordinates(output.sequences[:, -5:])
    expected = beam_scores(model, inputs, output.sequences).sum(-1) / 5
    torch.testing.assert_close(output.sequences_scores, expected, atol=1e-5, rtol=1e-5)


def mixed_batch() -> tuple[dict, list[dict]]:
    """Samples with a clip, two images, both, and text alone: in one batch padded on the left, and each alone."""
    parts = [
        ([2, [VIDEO] * video_tokens(4), 3, 44], {"pixel_values_videos": pixels(1, 4)}),
        ([5, [IMAGE] * GRID**2, 6, [IMAGE] * GRID**2, [7, 41]], {"pixel_values": pixels(2, seed=1)}),
        ([8, 9, 50], {}),
        (
            [2, [IMAGE] * GRID**2, [VIDEO] * video_tokens(2), 9, 45],
            {"pixel_values": pixels(1, seed=2), "pixel_values_videos": pixels(1, 2, seed=3)},
        ),
    ]
    samples = []
    for offset, (ids, media) in zip((0.25, 0.5, 0.0, 0.75), parts, strict=True):
        ids = prompt(*ids)
        offsets = torch.zeros(ids.shape)
        offsets[0, -1] = offset
        samples.append(
            {"input_ids": ids, "attention_mask": torch.ones_like(ids), "coordinate_offsets": offsets, **media}
        )
    clips = [sample["pixel_values_videos"] for sample in samples if "pixel_values_videos" in sample]
    longest = max(clip.shape[1] for clip in clips)
    batch = {
        name: left_pad([sample[name] for sample in samples], 0)
        for name in ("input_ids", "attention_mask", "coordinate_offsets")
    }
    batch["pixel_values"] = torch.cat([sample["pixel_values"] for sample in samples if "pixel_values" in sample])
    batch["pixel_values_videos"] = torch.cat(
        [F.pad(clip, (0, 0) * 3 + (0, longest - clip.shape[1])) for clip in clips]
    )
    batch["video_num_frames"] = torch.tensor([clip.shape[1] for clip in clips])
    return batch, samples


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"prefill_chunk_size": 50},
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0},
        {"num_return_sequences": 2, "do_sample": True, "top_k": 1},  # draws the best token every time
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()) or "greedy",
)
def test_a_mixed_batch_generates_what_each_sample_does_alone(make_generator, options):
    model = make_generator()
    batch, samples = mixed_batch()
    options = {"do_sample": False, **options}
    together = model.generate(**batch, max_new_tokens=6, **options)[:, -6:]
    alone = torch.cat([model.generate(**sample, max_new_tokens=6, **options)[:, -6:] for sample in samples])
    assert_has_coordinates(together)
    assert together.tolist() == alone.tolist()


# Scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [False, True])
def test_transition_scores_of_greedy_search(make_generator, normalize):
    model = make_generator()
    batch, _ = mixed_batch()
    output = model.generate(
        **batch, max_new_tokens=6, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    assert_has_coordinates(output.sequences[:, -6:])
    scores = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=normalize)
    logits = torch.stack(output.scores, dim=1)  # (batch, steps, vocabulary)
    expected = logits.log_softmax(-1) if normalize else logits
    torch.testing.assert_close(scores, expected.max(-1).values)
    assert model.config.text_config.vocab_size == FIRST_COORDINATE


@pytest.mark.parametrize("normalize", [False, True])
def test_transition_scores_of_beams(make_generator, normalize):
    model = make_generator()
    inputs = coordinate_prompt()
    output = model.generate(
        **inputs,
        max_new_tokens=6,
        num_beams=4,
        num_return_sequences=3,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    assert_has_coordinates(output.sequences[:, -6:])
    scores = model.compute_transition_scores(
        output.sequences, output.scores, output.beam_indices, normalize_logits=normalize
    )
    expected = beam_scores(model, inputs, output.sequences, normalize)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
    if not normalize:
        torch.testing.assert_close(scores.sum(-1) / 6, output.sequences_scores, atol=1e-5, rtol=1e-4)


# Logits processors -----------------------------------------------------------------------------------------------


class OnlyCoordinates(LogitsProcessor):
    """Leaves coordinates of the time axis alone, as a grammar would."""

    def __call__(self, input_ids, scores):
        assert scores.shape[-1] == TOTAL_VOCABULARY
        scores = scores.clone()
        scores[:, :FIRST_COORDINATE] = -torch.inf
        scores[:, FIRST_COORDINATE + 7 :] = -torch.inf
        return scores


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}, {"prompt_lookup_num_tokens": 2}])
def test_a_processor_of_the_caller_sees_all_tokens(make_generator, options):
    torch.manual_seed(0)
    output = make_generator().generate(
        **coordinate_prompt(), max_new_tokens=6, logits_processor=LogitsProcessorList([OnlyCoordinates()]), **options
    )
    generated = output[0, -6:]
    assert ((generated >= FIRST_COORDINATE) & (generated < FIRST_COORDINATE + 7)).all()


def test_processors_of_the_library_reach_coordinates(make_generator):
    model = make_generator()
    inputs = coordinate_prompt()

    def generate(**options) -> list[int]:
        return model.generate(**inputs, max_new_tokens=8, do_sample=False, **options)[0, -8:].tolist()

    plain = generate()
    coordinates = sorted({token for token in plain if token >= FIRST_COORDINATE})
    assert not set(coordinates) & set(generate(suppress_tokens=coordinates))
    assert coordinates[0] not in generate(bad_words_ids=[[coordinates[0]]])
    assert generate(sequence_bias=[[[56], 1e4]]) == [56] * 8
    repeated = generate(repetition_penalty=1e6)
    assert len(set(repeated)) == len(repeated)
    assert not {47, FIRST_COORDINATE} & set(repeated), "coordinates of the prompt count as repeated too"
    pairs = list(pairwise(generate(no_repeat_ngram_size=2)))
    assert len(set(pairs)) == len(pairs)
    assert generate(forced_eos_token_id=56)[-1] == 56


# A further turn --------------------------------------------------------------------------------------------------


def test_a_further_question_goes_on_from_the_cache(make_generator):
    model = make_generator()
    inputs = coordinate_prompt()
    first = model.generate(**inputs, max_new_tokens=4, do_sample=False, return_dict_in_generate=True)
    answer = first.sequences[:, -4:]
    assert_has_coordinates(answer)
    question, offsets = torch.tensor([[7, 43, 8]]), torch.tensor([[0.0, 0.75, 0.0]])
    longer = extend(extend(inputs, answer), question, offsets)
    expected = decode_by_hand(model, longer, 5)
    scores = next_scores(model, longer)
    on_bins = next_scores(model, extend(extend(inputs, answer), question))
    assert not torch.allclose(scores, on_bins, atol=1e-3), "the offset of the new question does not matter"
    text = {name: value for name, value in longer.items() if name != "pixel_values_videos"}
    calls = []
    model.model.vision_tower.register_forward_hook(lambda *args: calls.append(1))
    output = model.generate(
        **text,
        past_key_values=first.past_key_values,
        max_new_tokens=5,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    torch.testing.assert_close(output.scores[0], scores, atol=1e-5, rtol=1e-5)
    assert output.sequences[0, -5:].tolist() == expected
    assert not calls


# Compilation -----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(0, id="video", marks=pytest.mark.slow),
        pytest.param(1, id="images", marks=pytest.mark.slow),
        pytest.param(2, id="text"),
        pytest.param(3, id="image_and_video"),
    ],
)
def test_forward_compiles_without_a_graph_break(make_model, sample):
    torch.compiler.reset()
    model = make_model()
    inputs = mixed_batch()[1][sample]
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)
