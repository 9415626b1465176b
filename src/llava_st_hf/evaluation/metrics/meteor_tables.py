"""The tables of METEOR 1.5 in the files that `pycocoevalcap` brings, read without Java and where they are needed."""

import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...processing import InputError

_JAR, _PARAPHRASES = "meteor-1.5.jar", "data/paraphrase-en.gz"
_BLOCK = 64  # phrases; the first of each block is found by bisection
_CHUNK = 1 << 24
# Endings of plurals, of verbs and of adjectives, and what stands in their place in WordNet.
_ENDING_TEXT = (
    "s: ses:s xes:x zes:z ches:ch shes:sh men:man ies:y s: ies:y es:e es: ed:e ed: ing:e ing: er: est: er:e est:e"
)
_ENDINGS = tuple(pair.split(":") for pair in _ENDING_TEXT.split())


class MeteorTables:
    """
    Function words, synonyms and paraphrases of English.

    Args:
        folder (`Path`): Folder with `meteor-1.5.jar` and `data/paraphrase-en.gz`.

    Raises:
        `InputError`: When a table is needed and its file cannot be read.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.find_synonyms = lru_cache(100_000)(self._find_synonyms)
        self._find_paraphrases = lru_cache(100_000)(self._look_up)

    @cached_property
    def function_words(self) -> frozenset[str]:
        """Words of which most sentences have some."""
        return frozenset(self._read("function/english.words"))

    def find_paraphrases(self, words: Sequence[str], start: int) -> Iterator[tuple[int, dict[str, int]]]:
        """Yield the length of each phrase that begins at a word, and the order of its paraphrases in the table."""
        phrase = ""
        for length, word in enumerate(words[start:], start=1):
            phrase = f"{phrase} {word}".lstrip()
            paraphrases, goes_on = self._find_paraphrases(phrase)
            if paraphrases:
                yield length, paraphrases
            if not goes_on:
                return

    def _find_synonyms(self, word: str) -> frozenset[str]:
        """Return the sets of synonyms of a word and of what it is a form of."""
        bases = self._bases.get(word) or [self._find_base(word)]
        return frozenset(number for known in (word, *bases) for number in self._synonyms.get(known, "").split())

    def _find_base(self, word: str) -> str:
        if word.endswith("ss") or len(word) <= 2:
            return word
        bases = (word.removesuffix(ending) + other for ending, other in _ENDINGS if word.endswith(ending))
        return next((base for base in bases if base in self._synonyms), "")

    @cached_property
    def _synonyms(self) -> dict[str, str]:
        lines = self._read("synonym/english.synsets")
        return dict(zip(lines[::2], lines[1::2], strict=True))

    @cached_property
    def _bases(self) -> dict[str, list[str]]:
        lines, bases = self._read("synonym/english.exceptions"), {}
        for base, forms in zip(lines[::2], lines[1::2], strict=True):
            for form in forms.split():
                bases.setdefault(form, []).append(base)
        return bases

    def _read(self, name: str) -> list[str]:
        path = self.folder / _JAR
        try:
            with zipfile.ZipFile(path) as jar:
                return jar.read(name).decode().splitlines()
        except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
            raise _refuse(path, error) from error

    @cached_property
    def _paraphrases(self) -> tuple[bytes, np.ndarray]:
        """The table, three lines for each entry (a probability, a phrase, its paraphrase), and where blocks begin."""
        path, step, first, blocks = self.folder / _PARAPHRASES, 3 * _BLOCK, 0, []
        try:
            packed = path.read_bytes()
            # The length of what is packed stands at its end; with it memory is taken once.
            table = zlib.decompress(packed, wbits=31, bufsize=max(int.from_bytes(packed[-4:], "little"), 1))
        except (OSError, zlib.error) as error:
            raise _refuse(path, error) from error
        letters = np.frombuffer(table, dtype=np.uint8)
        for at in range(0, len(table), _CHUNK):
            breaks = np.flatnonzero(letters[at : at + _CHUNK] == ord("\n"))
            blocks.append(breaks[first::step] + at + 1)
            first = (first - len(breaks)) % step
        return table, np.concatenate(blocks)

    def _look_up(self, phrase: str) -> tuple[dict[str, int], bool]:
        """Return the paraphrases of a phrase, in order, and whether a longer one begins with it."""
        table, blocks = self._paraphrases
        key, found = phrase.encode(), {}
        at = int(blocks[max(bisect_left(blocks, key, key=lambda start: _read_line(table, start)) - 1, 0)])
        while at and (line := _read_line(table, at)) <= key:
            other = _read_line(table, at + len(line) + 1)
            if line == key:
                found[other.decode()] = len(found)
            at = table.find(b"\n", at + len(line) + len(other) + 2) + 1
        return found, bool(at) and line.startswith(key + b" ")


def find_meteor_tables() -> MeteorTables | None:
    """Return the tables of an installed `pycocoevalcap`, `None` where it is not installed; nothing is read yet."""
    spec = find_spec("pycocoevalcap")
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place) / "meteor"
        if (folder / _JAR).is_file() and (folder / _PARAPHRASES).is_file():
            return MeteorTables(folder)
    return None


def _read_line(table: bytes, start: int) -> bytes:
    return table[start : table.find(b"\n", start)]


def _refuse(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read ({error}): install pycocoevalcap again.")
