"""Constrained answers always parse, and cost fewer forward passes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor, MediaInfo
from llava_st_hf.processing.answer_formats_llava_st import ANSWER_FORMATS
from llava_st_hf.processing.answer_grammar_llava_st import AnswerGrammar, TimeLimits, find_time_limits
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.batch_feature_llava_st import GroundingContext
from llava_st_hf.processing.constrained_generation_llava_st import GrammarLogitsProcessor
from llava_st_hf.processing.media_llava_st import InputError, PromptError

CLIP = MediaInfo("video", 640, 360, tuple(range(0, 200, 2)), tuple(index / 25 for index in range(0, 200, 2)))
PHOTOGRAPH = MediaInfo("image", 640, 360)
FORMATS = sorted(ANSWER_FORMATS)
ON_IMAGES = ("box", "phrases_with_boxes")
START_SECONDS = CLIP.seconds_at(0.406)


@pytest.fixture(scope="module")
def processor(checkpoint) -> LlavaSTProcessor:
    return LlavaSTProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def model(checkpoint) -> LlavaSTForConditionalGeneration:
    return LlavaSTForConditionalGeneration.from_pretrained(checkpoint).eval()


def make_limits(answer_format: str, every_frame: bool) -> TimeLimits:
    context = GroundingContext()
    if answer_format == "end_caption_and_tube":
        context = GroundingContext(start_seconds=START_SECONDS)
    elif answer_format == "tube":
        context = GroundingContext(span_fractions=(0.2, 0.3))
    medium = PHOTOGRAPH if answer_format in ON_IMAGES else CLIP
    return find_time_limits(context, medium, 100, every_frame)


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
        if every_frame and result.tubes:
            times = {round(entry.fraction * 99) for entry in result.tubes[0].boxes}
            low, high = min(times), max(times)
            assert times == {time for time in limits.frame_times if low <= time <= high}
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


def allowed_after(processor, grammar: AnswerGrammar, text: str) -> set[str]:
    """Names of the tokens that may follow a beginning of an answer."""
    ids = torch.tensor([processor.tokenizer.encode(text)], dtype=torch.long)
    scores = GrammarLogitsProcessor([grammar], 0)(ids, torch.zeros(1, grammar.vocabulary.size))
    return set(processor.tokenizer.convert_ids_to_tokens(torch.isfinite(scores[0]).nonzero().flatten().tolist()))


@pytest.mark.parametrize(
    ("answer_format", "text", "expected"),
    [
        ("span", "", {"{"}),
        ("span", "{", {f"<t_{index}>" for index in range(99)}),
        ("span", "{<t_97>", {"<t_98>", "<t_99>"}),
        ("span", "{<t_97><t_99>", {"}"}),
        ("span", "{<t_97><t_99>}", {"<|im_end|>"}),
        ("box", "[<x_97>", {f"<y_{index}>" for index in range(99)}),
        ("box", "[<x_97><y_3>", {"<x_98>", "<x_99>"}),
        ("box", "[<x_97><y_97><x_98>", {"<y_98>", "<y_99>"}),
        ("span_and_tube", "{<t_5><t_7>} ", {"<t_5>", "<t_6>", "<t_7>"}),
        ("span_and_tube", "{<t_5><t_7>} <t_6>:[<x_1><y_1><x_2><y_2>], ", {"<t_7>"}),
        ("span_and_tube", "{<t_5><t_7>} <t_7>:[<x_1><y_1><x_2><y_2>]", {"<|im_end|>"}),
    ],
)
def test_what_may_come_next(processor, answer_format, text, expected):
    assert allowed_after(processor, make_grammar(processor, answer_format), text) == expected


def test_words_may_not_spell_coordinates_or_brackets(processor):
    allowed = allowed_after(processor, make_grammar(processor, "text"), "a dog")
    assert not any(set(token) & set("<>[]{}") - {">"} for token in allowed - {"<|im_end|>"})
    assert "<|im_end|>" in allowed
    assert len(allowed) > 100


def test_a_budget_that_no_answer_fits_is_refused(processor):
    with pytest.raises(PromptError, match="max_new_tokens is 4: an answer of the form 'span' needs at least 5"):
        make_grammar(processor, "span", budget=4)


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
        assert fast.tolist() == slow.tolist()
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
    assert chosen > 20


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
        passes[name], answers[name] = len(calls), outputs.tolist()
        (result,) = processor.post_process_grounding(outputs, inputs)
        assert len(result.tubes[0].boxes) == 50
        assert not result.problems
    assert answers["fast"] == answers["slow"]
    assert passes["slow"] >= 1.5 * passes["fast"]


def test_beams_keep_to_the_grammar(processor, model, clip):
    inputs = ask(processor, clip, *MIXED)
    constraints = processor.build_constraints(inputs, max_new_tokens=100, num_beams=2)
    outputs = model.generate(**inputs, do_sample=False, **constraints)
    for result in processor.post_process_grounding(outputs, inputs):
        assert not result.problems, result.text


def test_scores_of_forced_tokens_stand_beside_the_others(processor, model, clip):
    inputs = ask(processor, clip, STVG)
    constraints = processor.build_constraints(inputs, max_new_tokens=60)
    outputs = model.generate(
        **inputs, do_sample=False, return_dict_in_generate=True, output_scores=True, **constraints
    )
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
    with pytest.raises(PromptError, match="the task of sample 0 is not known"):
        processor.build_constraints(inputs)
    assert processor.build_constraints(inputs, task="video_qa")["max_new_tokens"] == 1024


def test_plain_generate_takes_the_logits_processor(processor, model, clip):
    inputs = ask(processor, clip, STVG)
    grammar = make_grammar(processor, "span", 16)
    constrained = GrammarLogitsProcessor([grammar], prompt_length=inputs["input_ids"].shape[1])
    outputs = model.generate(
        **inputs, logits_processor=LogitsProcessorList([constrained]), max_new_tokens=16, do_sample=False
    )
    assert len(processor.post_process_grounding(outputs, inputs, task="tvg")[0].spans) == 1


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


def test_what_the_loop_does_not_do_is_refused(processor, model, clip):
    inputs = ask(processor, clip, STVG)
    constraints = processor.build_constraints(inputs, max_new_tokens=60)
    with pytest.raises(InputError, match=r"build_constraints\(..., num_beams=...\)"):
        model.generate(**inputs, num_beams=2, do_sample=False, **constraints)
    with pytest.raises(InputError, match="output_logits is set"):
        model.generate(**inputs, return_dict_in_generate=True, output_logits=True, do_sample=False, **constraints)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"max_new_tokens": None}, "max_new_tokens is None"), ({"plain": True}, "a dict without media")],
)
def test_wrong_arguments_of_constraints(processor, clip, arguments, words):
    inputs = ask(processor, clip, STVG)
    if arguments.pop("plain", False):
        inputs = dict(inputs)
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
