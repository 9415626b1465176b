"""What each grammar offers, token by token."""

import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from json_notation import JsonNotation

from llava_st_hf import MediaInfo
from llava_st_hf.processing import answer_grammar_llava_st
from llava_st_hf.processing.answer_formats_llava_st import ANSWER_FORMATS, AnswerFormat
from llava_st_hf.processing.answer_grammar_llava_st import AnswerGrammar, TimeLimits
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.constrained_generation_llava_st import GrammarLogitsProcessor
from llava_st_hf.processing.grammar_vocabulary_llava_st import GrammarVocabulary
from llava_st_hf.processing.media_llava_st import PromptError
from llava_st_hf.processing.notation_llava_st import TokenNotation

CLIP = MediaInfo("video", 640, 360, tuple(range(0, 200, 2)), tuple(index / 25 for index in range(0, 200, 2)))
SEVERAL = {
    kind: AnswerFormat(f"{kind}s", parts=(kind,), several=(kind,), template=f"{{{kind}}}")
    for kind in ("span", "box", "tube")
}


def make_grammar(processor, answer_format="span", budget=64, limits=None) -> AnswerGrammar:
    return AnswerGrammar(processor.grammar_vocabulary, answer_format, budget, limits)


def walk_at_random(grammar: AnswerGrammar, rng: random.Random) -> list[int]:
    """Take any of the tokens that may come next, to the end of the turn, which must come within the budget."""
    walk, ids = grammar.start, []
    words = {name: mask.nonzero().flatten().tolist() for name, mask in grammar.vocabulary.words.masks.items()}
    while not ids or ids[-1] != grammar.vocabulary.end_id:
        assert len(ids) < grammar.max_new_tokens
        choices = grammar.choices(walk, len(ids))
        allowed = [*choices.ids, *range(choices.first, choices.last + 1), *words.get(choices.mask, [])]
        ids.append(rng.choice(allowed))
        walk = grammar.advance(walk, ids[-1])
    return ids


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


# Several of a kind ---------------------------------------------------------------------------------------------


class LettersApart(GrammarVocabulary):
    """Fixed pieces of answers are written sign by sign, so that a closing bracket is a token of its own."""

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(token_id for letter in text for token_id in super(LettersApart, self).encode(letter))


@pytest.mark.parametrize("kind", ["span", "box", "tube"])
@pytest.mark.parametrize("is_apart", [False, True], ids=["joined", "letters_apart"])
def test_an_answer_may_have_several_of_a_kind(processor, kind, is_apart):
    vocabulary = processor.grammar_vocabulary
    if is_apart:
        vocabulary = LettersApart(processor.tokenizer, processor.coordinates)
    rng, counts = random.Random(0), set()
    for budget in range(20, 200, 3):
        limits = TimeLimits(20, 80, tuple(range(0, 100, 7)) if budget % 2 else None)
        grammar = AnswerGrammar(vocabulary, SEVERAL[kind], 5 * budget if kind == "tube" else budget, limits)
        text = processor.tokenizer.decode(walk_at_random(grammar, rng), skip_special_tokens=True)
        result = parse_answer(text, CLIP)
        assert not result.problems, (text, result.problems)
        found = {"span": result.spans, "box": result.boxes, "tube": result.tubes}[kind]
        assert len(found) == text.count({"span": "{", "box": "[", "tube": "another"}[kind]) + (kind == "tube")
        counts.add(len(found))
    assert {1, 2, 3} <= counts


def test_what_may_follow_the_first_of_several(processor):
    vocabulary = processor.grammar_vocabulary
    text = "{<t_5><t_7>"
    more = {vocabulary.encode("}")[0], vocabulary.encode("}, {")[0]}
    names = set(processor.tokenizer.convert_ids_to_tokens(sorted(more)))
    assert allowed_after(processor, make_grammar(processor, SEVERAL["span"], 32), text) == names
    assert allowed_after(processor, make_grammar(processor, SEVERAL["span"], 8), text) == {"}"}
    assert allowed_after(processor, make_grammar(processor, "span", 32), text) == {"}"}


def test_a_format_of_ones_own_is_read_from_its_template(processor):
    both = AnswerFormat("where_and_what", parts=("box", "text"), template="At {box}, {caption}")
    text = processor.tokenizer.decode(walk_at_random(make_grammar(processor, both), random.Random(0)))
    assert text.startswith("At [<x_")
    assert text.endswith(".<|im_end|>")
    assert len(parse_answer(text, CLIP).boxes) == 1


class Spelled(TokenNotation):
    """Another notation, with signs between coordinates too."""

    def write_group(self, axes, coordinates):
        return {"t": "at ", "tt": "from ", "xyxy": "("}[axes] + ", ".join(coordinates) + {"xyxy": ")"}.get(axes, "")

    def write_entries(self, entries):
        return "{" + "; ".join(f"{time} = {box}" for time, box in entries) + "}"


@pytest.mark.parametrize(
    ("answer_format", "pattern"),
    [
        ("span", "from <t_.>, <t_.>"),
        ("box", "(<x_.>, <y_.>, <x_.>, <y_.>)"),
        ("tube", "{<t_1> = (<x_.>, <y_.>, <x_.>, <y_.>); <t_3> = (<x_.>, <y_.>, <x_.>, <y_.>)}"),
        ("end_caption_and_tube", None),
    ],
)
def test_the_notation_says_how_a_group_is_written(processor, monkeypatch, answer_format, pattern):
    monkeypatch.setattr(answer_grammar_llava_st, "NOTATION", Spelled())
    grammar = make_grammar(processor, answer_format, 200, TimeLimits(0, 3, (1, 3)))
    text = processor.tokenizer.decode(walk_at_random(grammar, random.Random(0)), skip_special_tokens=True)
    if pattern is None:
        assert text.startswith("Ends in at <t_")
        assert "Object bounding box: {<t_" in text
    else:
        assert re.fullmatch(re.escape(pattern).replace(re.escape("_."), r"_\d+"), text), text


@pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
def test_answers_of_every_format_follow_another_notation(processor, monkeypatch, answer_format):
    notation, rng = JsonNotation(), random.Random(0)
    monkeypatch.setattr(answer_grammar_llava_st, "NOTATION", notation)
    for budget in (120, 200, 300):
        grammar = make_grammar(processor, answer_format, budget, TimeLimits(0, 3, (1, 3)))
        text = processor.tokenizer.decode(walk_at_random(grammar, rng), skip_special_tokens=True)
        start = 0.0 if answer_format == "end_caption_and_tube" else None
        result = parse_answer(text, CLIP, answer_format=answer_format, notation=notation, start_seconds=start)
        assert result.problems == (), (text, result.problems)
        groups = {"span": result.spans, "box": result.boxes, "tube": result.tubes, "caption": result.captions}
        assert all(groups[part] for part in ANSWER_FORMATS[answer_format].parts if part != "text"), text


# Tubes ---------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    frames=st.sets(st.integers(0, 30), min_size=1),
    start=st.integers(0, 30),
    length=st.integers(0, 30),
)
def test_a_tube_names_the_frames_of_its_span_and_no_other(processor, frames, start, length):
    end = min(start + length, 30)
    grammar = make_grammar(processor, "tube", 1000, TimeLimits(start, end, tuple(sorted(frames))))
    first = grammar.vocabulary.first_id["t"]
    ids = walk_at_random(grammar, random.Random(0))
    times = [token_id - first for token_id in ids if first <= token_id < first + 100]
    assert times == (sorted(time for time in frames if start <= time <= end) or [start])
    assert grammar.count_least(grammar.start, 0) == len(ids)


@pytest.mark.parametrize(
    ("text", "drafted"),
    [
        ("<t_5>:[", ""),  # no box before
        ("<t_5>:[<x_10><y_20>", ""),
        ("<t_5>:[<x_10><y_20><x_30><y_40>], <t_6>:[", "<x_10><y_20><x_30>"),
        ("<t_5>:[<x_10><y_20><x_30><y_40>], <t_6>:[<x_12>", "<y_20><x_32>"),  # as wide as before
        ("<t_5>:[<x_10><y_20><x_30><y_40>], <t_6>:[<x_90>", "<y_20><x_99>"),
        ("<t_5>:[<x_10><y_20><x_30><y_40>], <t_6>:[<x_12><y_21>", "<x_32>"),
        ("<t_5>:[<x_10><y_20><x_30><y_40>], <t_6>:[<x_12><y_21><x_33>", ""),  # its logits come without a guess
        ("<t_5>:[<x_10><y_20><x_30><y_40>], ", ""),
        ("<t_5>:[<x_10><y_20><x_30><y_40>]", ""),
    ],
)
def test_a_box_is_guessed_from_the_one_before(processor, text, drafted):
    grammar = make_grammar(processor, "tube", 200, TimeLimits(5, 6))
    ids = processor.tokenizer.encode(text)
    walk = grammar.start
    for token_id in ids:
        walk = grammar.advance(walk, token_id)
    assert processor.tokenizer.decode(grammar.draft(walk, torch.tensor(ids))) == drafted


def test_words_before_a_box_are_no_box(processor):
    """The first box of a tube behind a caption that is as long as a box."""
    grammar = make_grammar(processor, "end_caption_and_tube", 200)
    text = "Ends in <t_5>, it moves and moves and moves and moves. Object bounding box: <t_1>:["
    walk, ids = grammar.start, processor.tokenizer.encode(text)
    for token_id in ids:
        walk = grammar.advance(walk, token_id)
    assert grammar.draft(walk, torch.tensor(ids)) == []
