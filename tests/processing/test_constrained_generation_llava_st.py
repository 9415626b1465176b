"""Constrained answers always parse, and cost fewer forward passes."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessor

from llava_st_hf import GroundingStreamer, MediaInfo
from llava_st_hf.processing.answer_formats_llava_st import ANSWER_FORMATS
from llava_st_hf.processing.answer_grammar_llava_st import AnswerGrammar
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.batch_feature_llava_st import GroundingContext
from llava_st_hf.processing.constrained_generation_llava_st import ConstrainedOutput, GrammarLogitsProcessor
from llava_st_hf.processing.grammar_vocabulary_llava_st import TimeLimits, find_time_limits
from llava_st_hf.processing.media_llava_st import InputError, PromptError
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary

CLIP = MediaInfo("video", 640, 360, tuple(range(0, 200, 2)), tuple(index / 25 for index in range(0, 200, 2)))
PHOTOGRAPH = MediaInfo("image", 640, 360)
FORMATS = sorted(ANSWER_FORMATS)
ON_IMAGES = ("box", "phrases_with_boxes")
START_SECONDS = CLIP.seconds_at(0.406)


def make_limits(answer_format: str, every_frame: bool) -> TimeLimits:
    context = GroundingContext()
    if answer_format == "end_caption_and_tube":
        context = GroundingContext(start_seconds=START_SECONDS)
    elif answer_format == "tube":
        context = GroundingContext(span_fractions=(0.2, 0.3))
    medium = PHOTOGRAPH if answer_format in ON_IMAGES else CLIP
    return find_time_limits(context, medium, CoordinateVocabulary(), every_frame)


def draw_answers(grammar: AnswerGrammar, num_answers: int, seed: int, sharpness: float) -> list[list[int]]:
    """Generate from random scores; returns the ids of each answer, the end of the turn included."""
    generator = torch.Generator().manual_seed(seed)
    constrain = GrammarLogitsProcessor([grammar] * num_answers, prompt_length=0)
    ids = torch.zeros(num_answers, 0, dtype=torch.long)
    end_id = grammar.vocabulary.end_id
    for _ in range(grammar.max_new_tokens):
        scores = sharpness * torch.randn(num_answers, grammar.vocabulary.size, generator=generator)
        scores[:, end_id] += 4 * torch.rand(num_answers, generator=generator)
        ids = torch.cat([ids, constrain(ids, scores).argmax(-1, keepdim=True)], dim=-1)
        if (ids == end_id).any(-1).all():
            break
    rows = ids.tolist()
    assert all(end_id in row for row in rows), "an answer did not end within its budget"
    return [row[: row.index(end_id) + 1] for row in rows]


def check_answers(processor, answer_format, budget, every_frame, num_answers, seed) -> int:
    limits = make_limits(answer_format, every_frame)
    try:
        grammar = AnswerGrammar(processor.grammar_vocabulary, answer_format, budget, limits)
    except PromptError as error:
        assert "max_new_tokens" in str(error)
        return 0
    medium = PHOTOGRAPH if answer_format in ON_IMAGES else CLIP
    start_seconds = START_SECONDS if answer_format == "end_caption_and_tube" else None
    for row in draw_answers(grammar, num_answers, seed, sharpness=2.0):
        text = processor.tokenizer.decode(row, skip_special_tokens=True)
        result = parse_answer(text, medium, answer_format=answer_format, start_seconds=start_seconds)
        assert not result.problems, (text, result.problems)
        for tube in result.tubes if every_frame else ():
            times = {round(entry.fraction * 99) for entry in tube.boxes}
            low, high = min(times), max(times)
            assert times == {time for time in limits.frame_times if low <= time <= high}
        if answer_format == "spans_and_tubes":
            for span, tube in zip(result.spans, result.tubes, strict=True):  # one each, in their order
                assert span.start_seconds <= tube.start_seconds and tube.end_seconds <= span.end_seconds
    return num_answers


@pytest.mark.parametrize("answer_format", FORMATS)
@pytest.mark.parametrize("every_frame", [False, True])
def test_every_constrained_answer_parses_without_a_problem(processor, answer_format, every_frame):
    if every_frame and "tube" not in answer_format:
        pytest.skip("only tubes have boxes for frames")
    checked = [
        check_answers(processor, answer_format, budget, every_frame, 16, seed=budget) for budget in (30, 60, 200)
    ]
    assert sum(checked) >= 16


@pytest.mark.slow
def test_ten_thousand_constrained_answers_parse_without_a_problem(processor):
    total = 0

    @settings(max_examples=800, deadline=None, database=None)
    @given(
        st.sampled_from([(form, every) for form in FORMATS for every in (False, True) if not every or "tube" in form]),
        st.integers(30, 250),
        st.integers(0, 2**31),
    )
    def check(form, budget, seed):
        nonlocal total
        answer_format, every_frame = form
        total += check_answers(processor, answer_format, budget, every_frame, 25, seed)

    check()
    assert total >= 10_000


def read_free_answers(processor, num_answers: int, seed: int) -> None:
    """Draw answers token by token without a grammar, the marks of groups ten times as likely, and read them."""
    vocabulary = processor.grammar_vocabulary
    generator = torch.Generator().manual_seed(seed)
    weights = torch.ones(vocabulary.size)
    for mark in ("{", "}", "[", "]", ":", ",", "."):
        weights[list(vocabulary.encode(mark))] = 10.0 * vocabulary.size / 100
    for _ in range(num_answers):
        length = int(torch.randint(1, 60, (), generator=generator))
        ids = torch.multinomial(weights, length, replacement=True, generator=generator)
        text = processor.tokenizer.decode(ids, skip_special_tokens=True)
        for answer_format in FORMATS:
            medium = PHOTOGRAPH if answer_format in ON_IMAGES else CLIP
            result = parse_answer(text, medium, answer_format=answer_format)
            assert result.text == text


def test_no_free_answer_raises(processor):
    read_free_answers(processor, 300, seed=0)


@pytest.mark.slow
def test_none_of_ten_thousand_free_answers_raises(processor):
    read_free_answers(processor, 10_000, seed=1)


def make_grammar(processor, answer_format="span", budget=64, limits=None) -> AnswerGrammar:
    return AnswerGrammar(processor.grammar_vocabulary, answer_format, budget, limits)


# The logits processor alone ------------------------------------------------------------------------------------


def walk_afresh(grammars, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """What a processor allows that has not seen the beginning of the answers."""
    return GrammarLogitsProcessor(grammars, 0)(ids, scores)


def test_beams_and_other_beginnings_are_followed(processor):
    """Rows of a sample change places, answers grow by several tokens, fall back, or begin again."""
    grammars = [make_grammar(processor, "span_and_tube"), make_grammar(processor, "box")]
    constrain = GrammarLogitsProcessor(grammars, 0)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, grammars[0].vocabulary.size, generator=generator)
    ids = torch.zeros(4, 0, dtype=torch.long)
    for step in range(40):
        allowed = constrain(ids, scores)
        torch.testing.assert_close(allowed, walk_afresh(grammars, ids, scores))
        chosen = torch.multinomial(allowed.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, chosen], dim=-1)
        ids = ids[torch.tensor([[0, 1, 2, 3], [1, 0, 3, 3], [0, 0, 3, 2]][step % 3])]
    for length in (40, 38, 3, 31, 0, 1):
        torch.testing.assert_close(constrain(ids[:, :length], scores), walk_afresh(grammars, ids[:, :length], scores))
    torch.testing.assert_close(
        constrain(ids[[0, 2], :5], scores[:2]), walk_afresh(grammars, ids[[0, 2], :5], scores[:2])
    )


def test_rows_that_belong_to_no_sample_are_refused(processor):
    constrain = GrammarLogitsProcessor([make_grammar(processor), make_grammar(processor)], 0)
    for rows in (1, 3):
        with pytest.raises(InputError, match=f"input_ids has {rows} rows, the logits processor 2 samples"):
            constrain(torch.zeros(rows, 0, dtype=torch.long), torch.zeros(rows, 2000))


def test_a_head_wider_than_the_vocabulary_and_half_precision(processor):
    """Engines pad the head, and hand over the scores as the model gives them."""
    for answer_format in ("span", "text"):
        grammar = make_grammar(processor, answer_format)
        scores = torch.randn(1, grammar.vocabulary.size + 20, dtype=torch.bfloat16)
        ids = torch.zeros(1, 0, dtype=torch.long)
        allowed = walk_afresh([grammar], ids, scores)
        assert allowed.dtype == torch.bfloat16
        assert not torch.isfinite(allowed[:, grammar.vocabulary.size :]).any()
        kept = torch.isfinite(allowed)
        assert kept.any()
        assert torch.equal(allowed[kept], scores[kept])


@pytest.mark.parametrize("value", [float("-inf"), float("nan")])
@pytest.mark.parametrize("answer_format", ["span", "text", "phrases_with_boxes"])
def test_without_a_score_that_can_be_used_the_grammar_decides(processor, answer_format, value):
    grammar = make_grammar(processor, answer_format)
    ids = torch.zeros(2, 0, dtype=torch.long)
    scores = torch.stack([torch.full((grammar.vocabulary.size,), value), torch.zeros(grammar.vocabulary.size)])
    even, usual = walk_afresh([grammar, grammar], ids, scores)
    assert torch.equal(even, usual)


# With the model ------------------------------------------------------------------------------------------------


def ask(processor, clip, *questions):
    messages = [processor.build_messages(task, video=clip, **asking) for task, asking in questions]
    return processor.apply_chat_template(
        messages,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"num_frames": 20},
    )


STVG = ("stvg", {"query": "a red circle"})
MIXED = [STVG, ("elc", {"start_seconds": 1.0, "box": (10, 10, 50, 50)}), ("dvc", {}), ("tvg", {"query": "it moves"})]


@pytest.mark.parametrize("sample", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("questions", [[STVG], MIXED], ids=["one", "batch"])
def test_forced_runs_give_the_answers_of_one_token_at_a_time(processor, model, clip, questions, sample):
    if sample and len(questions) > 1:
        pytest.skip("rows of a batch draw in another order when runs are skipped")
    inputs = ask(processor, clip, *questions)
    constraints = processor.build_constraints(inputs, max_new_tokens=120)
    torch.manual_seed(3)
    fast = model.generate(**inputs, do_sample=sample, **constraints)
    constraints = processor.build_constraints(inputs, max_new_tokens=120)
    constraints.pop("custom_generate")
    torch.manual_seed(3)
    slow = model.generate(**inputs, do_sample=sample, **constraints)
    if not sample:
        assert fast.sequences.tolist() == slow.tolist()
    for outputs in (fast, slow):
        for result in processor.post_process_grounding(outputs, inputs):
            assert not result.problems, result.text


@pytest.mark.parametrize("questions", [[STVG], MIXED], ids=["one", "batch"])
def test_scores_are_those_of_one_token_at_a_time(processor, model, clip, questions):
    """A token is scored by all that stands before it at its own position, whether it was fed alone or in a run."""
    inputs = ask(processor, clip, *questions)
    options = {"do_sample": False, "return_dict_in_generate": True, "output_scores": True}
    outputs = {}
    for name in ("fast", "slow"):
        constraints = processor.build_constraints(inputs, max_new_tokens=120)
        if name == "slow":
            constraints.pop("custom_generate")
        outputs[name] = model.generate(**inputs, **options, **constraints)
    chosen = 0
    for fast, slow, coordinates in zip(
        outputs["fast"].scores, outputs["slow"].scores, outputs["fast"].coordinate_scores, strict=True
    ):
        if coordinates.isnan().all():  # the grammar left no choice
            continue
        chosen += 1
        assert torch.allclose(fast, slow, atol=1e-4)
    assert chosen > 15


def test_a_tube_of_fifty_boxes_takes_fewer_passes(processor, model, clip):
    messages = processor.build_messages("svg", video=clip, query="the circle", span_fractions=(0.0, 49 / 99))
    inputs = processor.apply_chat_template(
        messages,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"num_frames": 40},
    )
    passes, answers = {}, {}
    for name in ("fast", "slow"):
        constraints = processor.build_constraints(inputs, max_new_tokens=700)
        # Fifty times in a row: what a model that follows an object would answer.
        (grammar,) = constraints["logits_processor"][0].grammars
        grammar.limits = TimeLimits(0, 49, tuple(range(50)))
        if name == "slow":
            constraints.pop("custom_generate")
        calls = []
        hook = model.model.language_model.register_forward_hook(lambda *arguments, calls=calls: calls.append(1))
        outputs = model.generate(**inputs, do_sample=False, **constraints)
        hook.remove()
        passes[name], answers[name] = len(calls), getattr(outputs, "sequences", outputs).tolist()
        (result,) = processor.post_process_grounding(outputs, inputs)
        assert len(result.tubes[0].boxes) == 50
        assert not result.problems
    assert answers["fast"] == answers["slow"]
    assert passes["slow"] >= 1.5 * passes["fast"]


class Scripted(LogitsProcessor):
    """A model that gives an answer which was written before."""

    def __init__(self, ids: list[int], prompt_length: int):
        self.ids, self.prompt_length = ids, prompt_length

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[0, self.ids[input_ids.shape[1] - self.prompt_length]] = 1e4
        return scores


@pytest.mark.parametrize(
    ("step", "most_passes"), [(0, 50 + 5), (1, 2 * 50 + 5)], ids=["an_object_that_stays", "an_object_that_moves"]
)
def test_a_box_drafts_the_next_one(processor, model, clip, step, most_passes):
    """A box like the one before takes one pass, one of the same size elsewhere takes two."""
    inputs = ask(processor, clip, ("svg", {"query": "the circle", "span_fractions": (0.0, 49 / 99)}))
    boxes = [(10 + step * time, 30, 40 + step * time, 70 + time % 2) for time in range(50)]
    text = ", ".join(f"<t_{time}>:[<x_{x1}><y_{y1}><x_{x2}><y_{y2}>]" for time, (x1, y1, x2, y2) in enumerate(boxes))
    ids = [*processor.tokenizer.encode(text), processor.tokenizer.convert_tokens_to_ids("<|im_end|>")]
    length = inputs["input_ids"].shape[1]
    for is_kept in (True, False):
        constraints = processor.build_constraints(inputs, max_new_tokens=700)
        constraints["logits_processor"][0].grammars[0].limits = TimeLimits(0, 49, tuple(range(50)))
        constraints["logits_processor"][:0] = [Scripted(ids, length)]
        calls = []
        hook = model.model.language_model.register_forward_hook(lambda *arguments, calls=calls: calls.append(1))
        outputs = model.generate(**inputs, do_sample=False, output_scores=is_kept, **constraints)
        hook.remove()
        assert outputs.sequences[0, length:].tolist() == ids
        assert len(calls) <= most_passes
        if is_kept:
            # Nothing of a draft is left in the cache: it holds all but what was not fed since.
            assert outputs.past_key_values.get_seq_length() < outputs.sequences.shape[1]
            assert len(outputs.scores) == len(outputs.coordinate_scores) == len(ids)


def test_scores_of_forced_tokens_stand_beside_the_others(processor, model, clip):
    inputs = ask(processor, clip, STVG)
    constraints = processor.build_constraints(inputs, max_new_tokens=60)
    outputs = model.generate(**inputs, do_sample=False, output_scores=True, **constraints)
    new = outputs.sequences[:, inputs["input_ids"].shape[1] :]
    assert len(outputs.scores) == new.shape[1]
    for step, scores in enumerate(outputs.scores):
        assert scores[0].argmax() == new[0, step]
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert not result.problems
    assert result.spans[0].confidence > 0
    assert all(entry.box.confidence is not None for entry in result.tubes[0].boxes)


def test_an_unknown_task_is_refused(processor, clip):
    messages = [{"role": "user", "content": [{"type": "video", "video": clip}, {"type": "text", "text": "Hello?"}]}]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with pytest.raises(PromptError, match=r"the task of sample 0 is not known.*: leave the constraints out"):
        processor.build_constraints(inputs)
    assert processor.build_constraints(inputs, task="video_qa")["max_new_tokens"] == 1024


@pytest.mark.parametrize("num_beams", [1, 2])
def test_plain_generate_takes_the_logits_processor(processor, model, clip, num_beams):
    inputs = ask(processor, clip, *MIXED)
    options = {"do_sample": False, "num_beams": num_beams, "max_new_tokens": 100}
    constrained = processor.build_logits_processor(inputs, max_new_tokens=100)
    outputs = model.generate(**inputs, **options, logits_processor=[constrained])
    constraints = processor.build_constraints(inputs, max_new_tokens=100)
    assert outputs.tolist() == model.generate(**inputs, **{**options, **constraints}).sequences.tolist()
    for result in processor.post_process_grounding(outputs, inputs):
        assert not result.problems, result.text
    task = processor.build_logits_processor(inputs, max_new_tokens=16, task="tvg")
    outputs = model.generate(**inputs, do_sample=False, logits_processor=[task], max_new_tokens=16)
    for result in processor.post_process_grounding(outputs, inputs, task="tvg"):
        assert len(result.spans) == 1


def test_an_engine_may_hand_over_what_is_new_only(processor, model, clip):
    inputs = ask(processor, clip, STVG)
    expected = model.generate(**inputs, do_sample=False, **processor.build_constraints(inputs, max_new_tokens=100))
    constrain = processor.build_logits_processor(inputs, max_new_tokens=100, prompt_length=0)
    length = inputs["input_ids"].shape[1]

    class NewTokensOnly(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return constrain(input_ids[:, length:], scores)

    outputs = model.generate(**inputs, do_sample=False, logits_processor=[NewTokensOnly()], max_new_tokens=100)
    assert outputs.tolist() == expected.sequences.tolist()


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_row_that_something_else_stops_does_not_disturb_the_others(processor, model, clip, is_fast):
    inputs = ask(processor, clip, *MIXED)
    constraints = processor.build_constraints(inputs, max_new_tokens=100)
    if not is_fast:
        constraints.pop("custom_generate")
    alone = model.generate(**inputs, do_sample=False, **constraints)
    alone = getattr(alone, "sequences", alone)
    vocabulary = processor.grammar_vocabulary
    closing = torch.tensor(vocabulary.list_closings(*vocabulary.encode("}")))
    outputs = model.generate(
        **inputs,
        do_sample=False,
        **constraints,
        stopping_criteria=[lambda ids, scores: torch.isin(ids[:, -1], closing)],
    )
    outputs = getattr(outputs, "sequences", outputs)
    length, pad = inputs["input_ids"].shape[1], model.generation_config.pad_token_id
    for row, whole in zip(outputs[:, length:], alone[:, length:], strict=True):
        ends = torch.isin(whole, closing).nonzero().flatten().tolist()
        expected = whole[: ends[0] + 1] if ends else whole[: (whole != pad).sum()]
        assert row[: len(expected)].tolist() == expected.tolist()
        assert (row[len(expected) :] == pad).all()


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize(
    "options",
    [{"no_repeat_ngram_size": 2}, {"repetition_penalty": 5.0}, {"suppress_tokens": "{"}],
    ids=lambda options: next(iter(options)),
)
def test_the_grammar_stands_against_other_processors(processor, model, clip, options, sample):
    inputs = ask(processor, clip, *MIXED)
    if "suppress_tokens" in options:
        options = {"suppress_tokens": list(processor.grammar_vocabulary.encode("{"))}
    constraints = processor.build_constraints(inputs, max_new_tokens=100)
    outputs = model.generate(**inputs, do_sample=sample, **options, **constraints)
    for result in processor.post_process_grounding(outputs, inputs):
        assert not result.problems, result.text


def test_words_hold_no_token_that_generate_would_stop_at(processor, model, clip):
    inputs = ask(processor, clip, MIXED[1])
    stop = processor.tokenizer.encode("a")[0]
    eos = [processor.tokenizer.convert_tokens_to_ids("<|im_end|>"), stop]
    constraints = processor.build_constraints(inputs, max_new_tokens=100)
    outputs = model.generate(**inputs, do_sample=False, eos_token_id=eos, sequence_bias={(stop,): 50.0}, **constraints)
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert not result.problems, result.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output_logits": True}, "output_logits is set"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "generate is asked for contrastive search"),
        ({"dola_layers": "low"}, "generate is asked for dola generation"),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.1}, "generate is asked for group beam search"),
        ({"synced_gpus": True}, "synced_gpus is set"),
        ({"do_sample": True, "num_return_sequences": 2, "streamer": GroundingStreamer(print, inputs={})}, "2 answers"),
        ({"streamer": GroundingStreamer(print)}, "streamer knows no question"),
    ],
)
def test_what_the_loop_does_not_do_is_refused(processor, model, clip, options, words):
    inputs = ask(processor, clip, STVG)
    constraints = processor.build_constraints(inputs, max_new_tokens=60)
    with pytest.raises(InputError, match=words):
        model.generate(**inputs, **{"do_sample": False, **options}, **constraints)


def list_numbers(result) -> list:
    return [*result.spans, *result.boxes, *(entry for tube in result.tubes for entry in tube.boxes)]


@pytest.mark.parametrize("way", ["beams", "several_beams", "sampled_beams", "lookup", "assistant", "sampled"])
def test_the_other_loops_keep_to_the_grammar_and_refine(processor, model, clip, way):
    options, questions = {"do_sample": False}, MIXED if "beams" in way else [STVG]
    options |= {
        "beams": {"num_beams": 2},
        "several_beams": {"num_beams": 3, "num_return_sequences": 2},
        "sampled_beams": {"num_beams": 2, "do_sample": True},
        "lookup": {"prompt_lookup_num_tokens": 3},
        "assistant": {"assistant_model": copy.deepcopy(model)},
        "sampled": {"do_sample": True, "num_return_sequences": 3},
    }[way]
    inputs = ask(processor, clip, *questions)
    outputs = model.generate(**inputs, **options, **processor.build_constraints(inputs, max_new_tokens=100))
    results = processor.post_process_grounding(outputs, inputs)
    assert isinstance(outputs, ConstrainedOutput) is (way == "sampled"), "beams and an assistant have their own loops"
    assert len(results) == len(questions) * options.get("num_return_sequences", 1)
    for result in results:
        assert not result.problems, result.text
        assert not result.notes
        assert all(span.confidence is not None for span in result.spans)
        refined = [value for entry in list_numbers(result) for value in (getattr(entry, "fractions", None) or ())]
        assert any(abs(value * 99 - round(value * 99)) > 1e-6 for value in refined), "all stand on their bins"
    if way in ("lookup", "assistant"):
        alone = model.generate(**inputs, do_sample=False, **processor.build_constraints(inputs, max_new_tokens=100))
        assert outputs.sequences.tolist() == alone.sequences.tolist()
        (expected,) = processor.post_process_grounding(alone, inputs)
        for found, wanted in zip(results[0].spans, expected.spans, strict=True):
            assert found.start_seconds == pytest.approx(wanted.start_seconds, abs=1e-4)
            assert found.confidence == pytest.approx(wanted.confidence, abs=1e-4)


def test_the_scores_of_a_beam_are_those_of_its_own_answer(processor, model, clip):
    """A search that ends with the greedy answer refines it as greedy decoding does."""
    inputs = ask(processor, clip, ("tvg", {"query": "it moves"}))
    ids = processor.tokenizer.encode("{<t_10><t_40>}", add_special_tokens=False)
    ids.append(processor.tokenizer.convert_tokens_to_ids("<|im_end|>"))
    allowed = {"suppress_tokens": [token for token in range(model.config.total_vocab_size) if token not in ids[1:-2]]}
    outputs = {}
    for num_beams in (1, 3):
        constraints = processor.build_constraints(inputs, max_new_tokens=8)
        outputs[num_beams] = model.generate(**inputs, **constraints, **allowed, do_sample=False, num_beams=num_beams)
    one, three = (processor.post_process_grounding(each, inputs)[0].spans[0] for each in outputs.values())
    assert (three.start_seconds, three.confidence) == pytest.approx((one.start_seconds, one.confidence), abs=1e-4)


def test_words_at_which_to_stop_are_heard(processor, model, clip):
    """`generate` finds them by the tokenizer, which it hands to its own loops only."""
    inputs = ask(processor, clip, STVG)
    constraints = processor.build_constraints(inputs, max_new_tokens=60)
    outputs = model.generate(**inputs, **constraints, stop_strings=["}"], tokenizer=processor.tokenizer)
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert result.text.count("}") == 1 and not result.tubes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"max_new_tokens": None}, "max_new_tokens is None"), ({"plain": True}, "a dict without media")],
)
def test_wrong_arguments_of_constraints(processor, clip, arguments, words):
    inputs = ask(processor, clip, STVG)
    if arguments.pop("plain", False):
        inputs = {name: values.clone() for name, values in inputs.items()}
    with pytest.raises(InputError, match=words):
        processor.build_constraints(inputs, **arguments)


def test_a_start_that_the_caller_knows_bounds_the_answer(processor, clip):
    question = {"type": "text", "text": "Starts in <t=2.0s> , what happened?"}
    messages = [{"role": "user", "content": [{"type": "video", "video": clip}, question]}]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    constraints = processor.build_constraints(inputs, task="elc", start_seconds=2.0)
    assert constraints["logits_processor"][0].grammars[0].first_time == round(2.0 / 3.9 * 99)
