"""Which tokens of a tokenizer words may consist of."""

import pytest
import torch

from llava_st_hf.processing.answer_grammar_llava_st import AnswerGrammar
from llava_st_hf.processing.grammar_vocabulary_llava_st import GrammarVocabulary
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary


def test_words_are_told_by_what_each_token_writes(processor):
    words = processor.grammar_vocabulary.words
    added = processor.tokenizer.added_tokens_decoder
    for token_id in range(processor.grammar_vocabulary.size):
        text = processor.tokenizer.decode([token_id])
        is_free = token_id not in added and not set(text) & set("<[]{}")
        is_word = token_id not in added and any(letter.isalnum() or letter == "_" for letter in text)
        assert words.masks["text"][token_id] == is_free, text
        assert words.masks["clause"][token_id] == (is_free and "." not in text), text
        assert words.masks["text words"][token_id] == (is_free and is_word), text
        assert words.masks["clause words"][token_id] == (is_free and is_word and "." not in text), text
        assert words.is_word[token_id] == is_word, text
        if token_id not in added:
            assert words.brackets.get(token_id) == (None if is_free else text)


@pytest.mark.parametrize(("opening", "closing"), ["{}", "[]"])
def test_a_bracket_may_be_written_together_with_what_stands_beside_it(processor, opening, closing):
    vocabulary, tokenizer = processor.grammar_vocabulary, processor.tokenizer
    (first,), (last,) = vocabulary.encode(opening), vocabulary.encode(closing)
    openings, closings = vocabulary.list_openings(first), vocabulary.list_closings(last)
    for token_id in set(range(vocabulary.size)) - set(tokenizer.added_tokens_decoder):
        text = tokenizer.decode([token_id])
        assert (token_id in openings) == (text in (opening, " " + opening))
        assert (token_id in closings) == (text[0] == closing and not set(text[1:]) & set("<[]{}")), text


def test_grammars_without_words_read_none(processor):
    vocabulary = GrammarVocabulary(processor.tokenizer, processor.coordinates)
    for name in ("span", "box", "tube", "span_and_tube"):
        AnswerGrammar(vocabulary, name, 100)
        assert "words" not in vars(vocabulary)
    AnswerGrammar(vocabulary, "phrases_with_boxes", 100)
    assert "words" in vars(vocabulary)


def test_ids_without_a_token_are_no_words(processor):
    """The embedding of a model may be longer than its tokenizer."""
    offset = len(processor.tokenizer) + 50
    masks = GrammarVocabulary(processor.tokenizer, CoordinateVocabulary(offset=offset)).words.masks
    assert all(len(mask) == offset + 300 and not mask[len(processor.tokenizer) :].any() for mask in masks.values())
    assert masks["text"].any()


def test_a_ceiling_leaves_words_as_they_are_and_nothing_else(processor):
    vocabulary = processor.grammar_vocabulary
    mask = vocabulary.words.masks["text"]
    forbidden = tuple(mask.nonzero().flatten().tolist()[:2])
    scores = torch.zeros(1, vocabulary.size, dtype=torch.float16)
    ceiling = vocabulary.get_ceiling("text", forbidden, scores)
    assert ceiling.dtype == torch.float16
    expected = mask.clone()
    expected[list(forbidden)] = False
    assert torch.equal(ceiling == float("inf"), expected)
    assert torch.equal(ceiling == float("-inf"), ~expected)
    assert vocabulary.get_ceiling("text", forbidden, scores) is ceiling
    assert not torch.equal(vocabulary.get_ceiling("text", (), scores), ceiling)
