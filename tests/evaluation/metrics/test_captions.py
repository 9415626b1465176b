"""Metrics of captions against what the published tools gave."""

import json

import numpy as np
import pytest

from llava_st_hf.evaluation.metrics.captions import (
    compute_bleu,
    compute_cider,
    compute_rouge_l,
    normalize_text,
    tokenize_caption,
)
from llava_st_hf.evaluation.metrics.meteor import compute_corpus_meteor
from llava_st_hf.evaluation.reference_protocol import parse_caption
from llava_st_hf.processing.media_llava_st import InputError


def test_normalized_text():
    assert normalize_text(" The red  Circle\nmoves left. ") == "the red circle moves left"
    assert normalize_text("a. b.") == "a. b"
    assert normalize_text("") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("She can't stop, won't she?", "she ca n't stop wo n't she"),
        ("The dogs' ball; it's (red)...", "the dogs ball it 's -lrb- red -rrb-"),
        ("A t-shirt No.8, 3.5 m and the 94th", "a t-shirt no. 8 3.5 m and the 94th"),
        ("Mr. W. Forsyth cannot go #now", "mr. w. forsyth can not go #now"),
        ("31 & 32, AT&T, 50% off!", "31 & 32 at&t 50 % off"),
        ("why?? #7 #now the 1990's x\u2019s", "why ?? # 7 #now the 1990 's x 's"),
        ("a << b && c ** d", "a < < b & & c ** d"),
        ("abc123!@#", "abc123!@#"),
        ("", ""),
    ],
)
def test_captions_are_split_as_the_published_tokenizer_does(text, words):
    assert tokenize_caption(text) == words.split()


def test_scores_of_the_recorded_run(parity_dir):
    for file in sorted(parity_dir.glob("*/metrics/elc.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        captions = [parse_caption(row["outputs"]) for row in rows]
        truths = [[row["gt"].get("caption", "")] for row in rows]
        expected = json.loads((file.parent / "expected.json").read_text())["elc"]["caption_score"]
        bleu = compute_bleu(captions, truths)
        assert [round(value, 3) for value in bleu.values()] == expected["Bleu_4"]
        assert round(float(np.mean(compute_rouge_l(captions, truths))), 3) == expected["ROUGE_L"]
        assert round(float(np.mean(compute_cider(captions, truths))), 3) == expected["CIDEr"]
        assert round(compute_corpus_meteor(captions, truths), 3) == expected["METEOR"]


def test_by_hand():
    # 3 of 4 words, 2 of 3 pairs; one word shorter than the reference.
    bleu = compute_bleu(["a red dog runs"], [["a red dog jumps high"]])
    penalty = np.exp(1 - 5 / 4)
    assert bleu["Bleu_1"] == pytest.approx(penalty * 3 / 4)
    assert bleu["Bleu_2"] == pytest.approx(penalty * (3 / 4 * 2 / 3) ** 0.5)
    (value,) = compute_rouge_l(["a red dog runs"], [["a red dog jumps high"]])
    assert value == pytest.approx((1 + 1.44) * 0.75 * 0.6 / (0.6 + 1.44 * 0.75))


def test_equal_captions_score_most():
    captions = ["a red dog runs to the house", "two men play with a ball", "she opens the door of a car"]
    truths = [[caption] for caption in captions]
    assert compute_bleu(captions, truths)["Bleu_4"] == pytest.approx(1)
    assert compute_rouge_l(captions, truths) == pytest.approx([1, 1, 1])
    assert compute_cider(captions, truths) == pytest.approx([10, 10, 10])


@pytest.mark.parametrize("caption", ["", "\0" * 1000, "\u4e00\u4e8c", "a " * 2000, "\ud83d" * 5, "{[(<"])
def test_hostile_captions_are_worth_something_and_raise_nothing(caption):
    for compute in (compute_rouge_l, compute_cider):
        assert all(np.isfinite(compute([caption, "a dog"], [["a cat"], ["a dog"]])))
    assert np.isfinite([*compute_bleu([caption], [["a cat"]]).values()]).all()


def test_items_without_a_reference_are_refused():
    with pytest.raises(InputError, match="at least one reference"):
        compute_bleu(["a"], [[]])
