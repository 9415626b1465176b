"""The stems of English words by Porter's second algorithm, in the edition that METEOR 1.5 has."""

import re
from functools import lru_cache

_VOWELS = "aeiouy"  # "Y" is a y that is a consonant
_WHOLE = {
    "skis": "ski",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "idly": "idl",
    "gently": "gentl",
    "ugly": "ugli",
    "early": "earli",
    "only": "onli",
    "singly": "singl",
    **{word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")},
}
_DONE_EARLY = frozenset(("inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"))
_SPECIAL_BEGINNING = re.compile(r"gener|commun|arsen")
_REGION = re.compile(rf".*?[{_VOWELS}].*?[^{_VOWELS}]", re.DOTALL)
_VOWEL = re.compile(f"[{_VOWELS}]")
_SHORT_END = re.compile(rf"(?:[^{_VOWELS}][{_VOWELS}][^{_VOWELS}wxY]|^[{_VOWELS}][^{_VOWELS}])$")
_DOUBLE_END = re.compile(r"([bdfgmnprt])\1$")


def _read_endings(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


# What stands in the place of each ending; the longest that a word has counts.
_SECOND = _read_endings(
    "tional:tion enci:ence anci:ance abli:able entli:ent izer:ize ization:ize ational:ate ation:ate ator:ate alism:al "
    "aliti:al alli:al fulness:ful ousli:ous ousness:ous iveness:ive iviti:ive biliti:ble bli:ble ogi:og fulli:ful "
    "lessli:less li:"
)
_THIRD = _read_endings("tional:tion ational:ate alize:al icate:ic iciti:ic ical:ic ful: ness: ative:")
_FOURTH = _read_endings(
    "al: ance: ence: er: ic: able: ible: ant: ement: ment: ent: ism: ate: iti: ous: ive: ize: ion:"
)
# What some endings must stand behind.
_BEHIND = {"ogi": ("l",), "li": tuple("cdeghkmnrt"), "ion": ("s", "t")}


@lru_cache(maxsize=100_000)
def stem_word(word: str) -> str:
    """Return the stem of a word in lower case, such as `"happi"` of `"happiness"`."""
    if word in _WHOLE or len(word) < 3:
        return _WHOLE.get(word, word)
    word = re.sub(rf"([{_VOWELS}])y", r"\1Y", re.sub("^y", "Y", word.removeprefix("'")))
    special = _SPECIAL_BEGINNING.match(word) or _REGION.match(word)
    first = special.end() if special else len(word)
    inner = _REGION.match(word, first)
    second = inner.end() if inner else len(word)

    word = _cut_plural(re.sub(r"('s'|'s|')$", "", word))
    if word in _DONE_EARLY:
        return word
    word = _cut_past(word, first)
    word = re.sub(rf"(?<=[^{_VOWELS}])(?<!^.)[yY]$", "i", word) if len(word) > 2 else word
    word = _replace_ending(word, _SECOND, first, second)
    word = _replace_ending(word, _THIRD, first, second)
    word = _replace_ending(word, _FOURTH, second, second)
    ends_short = bool(_SHORT_END.search(word[:-1]))
    may_go = len(word) > second or (len(word) > first and not ends_short)
    if (word.endswith("e") and may_go) or (word.endswith("ll") and len(word) > second):
        word = word[:-1]
    return word.replace("Y", "y")


def _cut_plural(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _VOWEL.search(word[:-2]):
        return word[:-1]
    return word


def _cut_past(word: str, first: int) -> str:
    ending = next((end for end in ("eedly", "ingly", "edly", "eed", "ing", "ed") if word.endswith(end)), "")
    stem = word.removesuffix(ending)
    if ending.startswith("ee"):
        return stem + "ee" if len(stem) >= first else word
    if not ending or not _VOWEL.search(stem):
        return word
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if _DOUBLE_END.search(stem):
        return stem[:-1]
    return stem + "e" if len(stem) == first and _SHORT_END.search(stem) else stem


def _replace_ending(word: str, endings: dict[str, str], start: int, second: int) -> str:
    """Replace the longest ending of those given, if it begins at `start` or behind and nothing else forbids it."""
    ending = max(filter(word.endswith, endings), key=len, default=None)
    if ending is None:
        return word
    stem = word.removesuffix(ending)
    if len(stem) < (second if ending == "ative" else start) or not stem.endswith(_BEHIND.get(ending, "")):
        return word
    return stem + endings[ending]
