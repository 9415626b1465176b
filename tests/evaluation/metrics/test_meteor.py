"""METEOR against values of the published program."""

import pytest

from llava_st_hf.evaluation.metrics.meteor import compute_corpus_meteor, compute_meteor


def test_by_hand():
    assert compute_meteor("a dog runs", ["a cat", "a dog runs"]) == 1
    assert compute_meteor("", ["a dog"]) == compute_meteor("a dog", [""]) == compute_meteor("a dog", []) == 0
    # Two chunks of 4 matches: all words, in another order.
    assert compute_meteor("dog runs red car", ["red car dog runs"]) == pytest.approx(1 - 0.6 * (2 / 4) ** 0.2)
    # A content word of two against a content word of one, one chunk of one match.
    precision, recall = 0.75 / 1.5, 1.0
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert compute_meteor("red dog", ["dog"]) == pytest.approx(mean * (1 - 0.6))


def test_stems_count_less_than_words():
    assert compute_meteor("dogs", ["dog"]) == pytest.approx(0.6)
    assert compute_meteor("she plays", ["she played"]) < compute_meteor("she plays", ["she plays"])


def test_that_of_a_data_set_is_of_sums():
    captions, truths = ["red dog", "blue cat"], [["red dog"], ["green cow"]]
    assert compute_corpus_meteor(captions, truths) == pytest.approx(0.5)
    assert compute_corpus_meteor([], []) == 0
