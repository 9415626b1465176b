"""Questions with choices: how they are written, and which choice an answer names."""

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CHOICE = re.compile(r"^\(([A-Z])\) (.*\S)", re.MULTILINE)
# At the start of an answer, where "A man" is no choice; behind such a word; or in brackets anywhere.
_FIRST = re.compile(r"\W*([A-Za-z])(?:[).:,]|\s*$)")
_NAMED = re.compile(r"(?i:\b(?:answer|option|choice)\b(?:\s+is)?)[\s:]*\(?([A-Z])\b")
_BRACKETED = re.compile(r"\(([A-Za-z])\)")


def write_choices(question: str, choices: Sequence[str]) -> str:
    """
    Write a question and its choices, each with a letter.

    Example:

    ```python
    >>> print(write_choices("What opens?", ["the door", "the box"]))
    What opens?
    Options:
    (A) the door
    (B) the box
    Only give the best option.
    ```
    """
    lines = [f"({letter}) {' '.join(choice.split())}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question.strip(), "Options:", *lines, "Only give the best option."])


def read_choice(text: str, question: str | None = None) -> str | None:
    """
    Return the letter of the choice that an answer names; `None` where it names none, or in brackets several.

    It names one by a letter at its start, as in `"B"` or `"(B) the box"`, or behind "answer", "option" or "choice"; by
    one letter alone in brackets anywhere; or by the words of a choice. Without the question, as `write_choices` writes
    it, any letter is a choice.
    """
    choices = dict(_CHOICE.findall(question or ""))
    named = [match[1].upper() for match in (_FIRST.match(text), _NAMED.search(text)) if match]
    bracketed = {letter.upper() for letter in _BRACKETED.findall(text)}
    named += bracketed if len(bracketed) == 1 else []
    for letter in named:
        if letter in choices or not choices:
            return letter
    words = _normalize(text)
    return next((letter for letter, choice in choices.items() if _normalize(choice) == words), None)


def _normalize(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(". ")
