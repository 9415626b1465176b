"""The captions of a benchmark, and those of dense captioning as ActivityNet Captions is scored."""

import numpy as np
import pytest

from llava_st_hf.evaluation.metrics.caption_sets import (
    CAPTION_METRICS,
    make_caption_statistics,
    pair_dense_captions,
)
from llava_st_hf.evaluation.metrics.captions import compute_bleu, compute_cider, compute_rouge_l
from llava_st_hf.evaluation.metrics.meteor import METEOR, compute_corpus_meteor
from llava_st_hf.evaluation.metrics.uncertainty import compute_intervals

SAID = ["a red dog runs to the house", "two men play", "she opens a door of the old car"]
TRUE = [["a red dog runs to the barn"], ["two men play with a ball"], ["a woman opens the door of a car"]]


def test_they_are_those_of_all_items():
    items = [{"": [pair]} for pair in zip(SAID, TRUE, strict=True)]
    found = {name: statistic.value for name, statistic in make_caption_statistics(items).items()}
    expected = compute_bleu(SAID, TRUE) | {
        METEOR: compute_corpus_meteor(SAID, TRUE),
        "ROUGE_L": np.mean(compute_rouge_l(SAID, TRUE)),
        "CIDEr": np.mean(compute_cider(SAID, TRUE)),
    }
    assert [*found] == [*CAPTION_METRICS]
    assert found == pytest.approx(expected)
    for name, interval in compute_intervals({}, make_caption_statistics(items)).items():
        assert interval.value == pytest.approx(found[name])
        assert interval.low <= interval.value <= interval.high


def test_an_item_of_which_nothing_is_known_counts_as_nothing():
    items = [{"": [pair]} for pair in zip(SAID, TRUE, strict=True)]
    before, after = make_caption_statistics(items), make_caption_statistics([*items, None])
    for name in ("ROUGE_L", "CIDEr"):
        assert after[name].value == pytest.approx(before[name].value * 3 / 4)
    assert {statistic.value for statistic in make_caption_statistics([None, None]).values()} == {0.0}


def test_sentences_meet_those_that_they_overlap():
    # tIoU .4 and .6 with the first two true sentences, none with the third.
    pairs = pair_dense_captions(["a dog runs"], ["a dog runs", "a cat", "x"], np.array([[0.4, 0.6, 0.0]]))
    nothing = ["abc123!@#"]
    assert pairs == {
        "0.3": [("a dog runs", ["a dog runs", "a cat"])],
        "0.5": [("a dog runs", ["a cat"])],
        "0.7": [("a dog runs", nothing)],
        "0.9": [("a dog runs", nothing)],
    }
    found = {name: statistic.value for name, statistic in make_caption_statistics([pairs]).items()}
    # Right at one of four thresholds; at .5 one word of three, in two of that caption.
    common = compute_rouge_l(["a dog runs"], [["a cat"]])[0]
    assert found["ROUGE_L"] == pytest.approx((1 + common) / 4)
    assert pair_dense_captions([], ["a dog"], np.zeros((0, 1)))["0.3"] == [("", nothing)]


def test_a_threshold_is_passed_and_not_reached():
    assert pair_dense_captions(["a"], ["b"], np.array([[0.3]]))["0.3"][0][1] != ["b"]
