"""Prompts, tokens, answers and scores are, byte for byte, what they were when the snapshot was written.

Every fifth question of ST-Shapes is looked at each time, and all of them by `make test-slow`.
Where a change is meant, `write_snapshot.py` writes it anew.
"""

import json
from pathlib import Path

import pytest
from snapshot.contents import Section, hash_value, list_sections, write_canonical

from llava_st_hf.evaluation.metrics.meteor import METEOR

FOLDER = Path(__file__).parent
MAX_SHOWN = 5  # differences whose values are printed
STEP = 5


@pytest.mark.parametrize("name", list_sections())
def test_snapshot(name):
    compute, needed = list_sections(STEP)[name]
    if needed is not None and not needed.is_dir():
        pytest.skip(f"recorded data is not here: {needed}")
    compare(name, compute(), STEP if name.startswith("st_shapes") else 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_sections() if name.startswith("st_shapes")])
def test_whole_snapshot(name):
    compare(name, list_sections()[name][0]())


def compare(name: str, section: Section, step: int = 1) -> None:
    """Compare a section, computed in steps, with what is stored."""
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    if "METEOR_no_synonyms" in text and METEOR == "METEOR":
        pytest.skip("its METEOR was recorded without the tables of pycocoevalcap, which is installed here")
    stored = json.loads(text)
    assert list(section) == [
        item for item in stored["items"] if step == 1 or (item != "all" and int(item) % step == 0)
    ]
    places = {item: place for place, item in enumerate(stored["items"])}
    hashes = {kind: " ".join(lines).split() for kind, lines in stored["hashes"].items()}
    differences = []
    for item, values in section.items():
        place = places[item]
        for kind in dict.fromkeys((*hashes, *values)):
            expected = hashes[kind][place] if place < len(hashes.get(kind, ())) else "-"
            if (hash_value(values[kind]) if kind in values else "-") != expected:
                differences.append(_describe(stored, item, kind, values))
    if differences:
        shown = "\n\n".join(f"{name}, {text}" for text in differences[:MAX_SHOWN])
        pytest.fail(f"{len(differences)} values of {name} differ, the first:\n\n{shown}", pytrace=False)


def _describe(stored: dict, item: str, kind: str, values: dict) -> str:
    """Say what differs; what was there before is stored for the first items only."""
    text = f"item {item}, {kind} is now\n{write_canonical(values[kind]) if kind in values else 'missing'}"
    before = stored["examples"].get(item, {})
    return f"{text}\nand was\n{write_canonical(before[kind])}" if kind in before else text
