"""Which words of a caption say what words of another say, as METEOR 1.5 finds it; `Parity:` is that program."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .english_stems import stem_word
from .meteor_tables import MeteorTables

WEIGHTS = (1.0, 0.6, 0.8, 0.6)  # of equal words, equal stems, synonyms and paraphrases
_EXACT, _STEM, _SYNONYM, _PARAPHRASE = range(len(WEIGHTS))
_BEAM = 40
_MAX_PHRASE = 7  # words of the longest paraphrase


class Match(NamedTuple):
    """Words of a caption that say what words of another say."""

    stage: int
    words: tuple[int, int]  # where they start and how many they are
    others: tuple[int, int]
    covered: int  # the words of both as bits


class _Path(NamedTuple):
    """The matches that are chosen up to some word of the other caption."""

    gain: int
    chunks: int  # closed ones
    distance: int
    next_place: int  # the first word behind the last match
    last_end: int | None  # where the last match ends in the caption, while its chunk is open
    covered: int
    matches: tuple[Match, ...]

    @property
    def rank(self) -> tuple[int, int, int]:
        """Sorts the best first."""
        return -self.gain, self.chunks, self.distance

    def add(self, match: Match, distance: int) -> "_Path":
        (start, length), (other_start, other_length) = match.words, match.others
        # Parity: half a word for each that is not equal, cut to whole ones, on each side.
        gains = (length, other_length) if match.stage == _EXACT else (length // 2, other_length // 2)
        return _Path(
            self.gain + sum(gains),
            self.chunks + (self.last_end is not None and self.last_end != start),
            distance,
            other_start + other_length,
            start + length,
            self.covered | match.covered,
            (*self.matches, match),
        )

    def skip(self, distance: int) -> "_Path":
        """Leave a word without a match, which ends a chunk."""
        chunks = self.chunks + (self.last_end is not None)
        return self._replace(chunks=chunks, distance=distance, next_place=self.next_place + 1, last_end=None)


def align_words(
    words: Sequence[str], others: Sequence[str], tables: MeteorTables | None
) -> tuple[tuple[Match, ...], int]:
    """
    Return the matches of two captions, each word in one at most, and in how many chunks they stand.

    The most matches count, then the fewest chunks, then the least distance; without tables only words and stems match.
    """
    matches: list[list[Match]] = [[] for _ in others]
    counts = [[0] * len(words), [0] * len(others)]
    for match in _find_matches(words, others, tables):
        matches[match.others[0]].append(match)
        for side, (start, length) in zip(counts, (match.words, match.others), strict=True):
            for place in range(start, start + length):
                side[place] += 1
    # What is matched once, by a match that shares no word, is settled.
    settled: dict[int, Match] = {}
    for place, found in enumerate(matches):
        if len(found) == 1:
            sides = zip(counts, (found[0].words, found[0].others), strict=True)
            if all(count == 1 for side, (start, length) in sides for count in side[start : start + length]):
                settled[place] = found[0]
    paths = [_Path(0, 0, 0, 0, None, sum(match.covered for match in settled.values()), ())]
    for place, found in enumerate(matches):
        best = sorted(paths, key=_get_rank)[:_BEAM]
        paths = [path for old in best for path in _extend(old, place, found, settled.get(place))] or best[:1]
    ended = [path.skip(path.distance) for path in sorted(paths, key=_get_rank)[:_BEAM]]
    chosen = min(ended, key=_get_rank)
    return chosen.matches, chosen.chunks


def _get_rank(path: _Path) -> tuple[int, int, int]:
    return path.rank


def _extend(path: _Path, place: int, matches: Sequence[Match], settled: Match | None) -> Iterator[_Path]:
    """Yield a path with each of the matches that begin at a word, and without any."""
    if path.covered >> place & 1:
        if place < path.next_place:
            yield path
        elif settled is not None:
            yield path.add(settled, path.distance + abs(place - settled.words[0]))
        return
    distance = path.distance
    for match in matches:
        if not path.covered & match.covered:
            yield path.add(match, distance)
            # Parity: a distance is added to the path that goes on without the match, and to those that come later.
            distance += abs(place - match.words[0])
    yield path.skip(distance)


def _find_matches(words: Sequence[str], others: Sequence[str], tables: MeteorTables | None) -> Iterator[Match]:
    """Yield all matches in the order in which the search tries them, those of equal words first."""

    def match(stage: int, start: int, length: int, other_start: int, other_length: int) -> Match:
        covered = ((1 << other_length) - 1 << other_start) | ((1 << length) - 1 << start + len(others))
        return Match(stage, (start, length), (other_start, other_length), covered)

    same = [words, others]
    stems = [[stem_word(word) for word in side] for side in same]
    sets = [[tables.find_synonyms(word) for word in side] for side in same] if tables else [[], []]
    for stage in range(_EXACT, _PARAPHRASE):
        # Parity: captions that are the same are compared by equal words alone.
        if stage != _EXACT and (list(words) == list(others) or (stage == _SYNONYM and tables is None)):
            return
        for place, other in enumerate(others):
            for at, word in enumerate(words):
                if stage == _EXACT:
                    is_match = word == other
                elif stage == _STEM:
                    is_match = word != other and stems[0][at] == stems[1][place]
                else:
                    is_match = word != other and not sets[0][at].isdisjoint(sets[1][place])
                if is_match:
                    yield match(stage, at, 1, place, 1)
    phrases, other_phrases = _list_phrases(words), _list_phrases(others)
    for place, length, at, other_length in _find_paraphrases(others, phrases, tables):
        yield match(_PARAPHRASE, at, other_length, place, length)
    for at, length, place, other_length in _find_paraphrases(words, other_phrases, tables):
        yield match(_PARAPHRASE, at, length, place, other_length)


def _find_paraphrases(
    words: Sequence[str], phrases: dict[str, list[int]], tables: MeteorTables
) -> Iterator[tuple[int, int, int, int]]:
    """Yield start and length of each phrase that has a paraphrase in another caption, and of that."""
    for start in range(len(words)):
        for length, paraphrases in tables.find_paraphrases(words, start):
            for phrase in sorted(paraphrases.keys() & phrases.keys(), key=paraphrases.__getitem__):
                for other_start in phrases[phrase]:
                    yield start, length, other_start, phrase.count(" ") + 1


def _list_phrases(words: Sequence[str]) -> dict[str, list[int]]:
    """Return where each run of words begins, up to the longest paraphrase."""
    phrases: dict[str, list[int]] = {}
    for start in range(len(words)):
        for end in range(start + 1, min(start + _MAX_PHRASE, len(words)) + 1):
            phrases.setdefault(" ".join(words[start:end]), []).append(start)
    return phrases
