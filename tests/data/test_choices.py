"""Which choice an answer names."""

import pytest

from llava_st_hf.data.choices import read_choice, write_choices

QUESTION = write_choices("What opens?", ["The door.", "the box", "an  umbrella"])


def test_each_choice_has_a_line():
    assert QUESTION.splitlines() == [
        "What opens?",
        "Options:",
        "(A) The door.",
        "(B) the box",
        "(C) an umbrella",
        "Only give the best option.",
    ]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B) the box", "B"),
        ("(b)", "B"),
        ("B. the door", "B"),
        ("B) or (A)", "B"),
        ("Best option: (C", "C"),
        ("The answer is B because it opens.", "B"),
        ("Answer: C.", "C"),
        ("It opens, so (B).", "B"),
        ("The box", "B"),
        ("the door", "A"),
        ("A man opens it", None),
        ("(A), (B) and (C)", "A"),
        ("Either (A) or (B)", None),
        ("D", None),
        ("(Z)", None),
        ("", None),
        ("I do not know", None),
        ("\u4e00", None),
        ("(" * 10_000 + "B", "B"),
    ],
)
def test_named_choice(text, letter):
    assert read_choice(text, QUESTION) == letter


def test_without_the_question_any_letter_is_one():
    assert (read_choice("(D) x"), read_choice("the box")) == ("D", None)
