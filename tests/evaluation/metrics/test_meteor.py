"""METEOR against values of the published program."""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pip_environment import ROOT, run_pip

from llava_st_hf.evaluation.metrics import meteor, meteor_tables
from llava_st_hf.evaluation.metrics.meteor import compute_corpus_meteor, compute_meteor
from llava_st_hf.evaluation.metrics.meteor_alignment import align_words
from llava_st_hf.evaluation.metrics.meteor_tables import MeteorTables, find_meteor_tables
from llava_st_hf.processing.media_llava_st import InputError

TABLES = find_meteor_tables()
RECORDED = json.loads((Path(__file__).parent / "meteor_java.json").read_text(encoding="utf-8"))
NO_TABLES = pytest.mark.skipif(TABLES is None, reason="pycocoevalcap, whose tables this needs, is not installed")


@pytest.fixture
def tables(tmp_path: Path) -> MeteorTables:
    """Small tables in the form of the real ones."""
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "meteor-1.5.jar", "w") as jar:
        jar.writestr("function/english.words", "the\na\n")
        jar.writestr("synonym/english.synsets", "boy\n1 2\nlad\n2\nman\n7\nrun\n3\nchap\n7 9\n")
        jar.writestr("synonym/english.exceptions", "run\nran\nman\nmen\n")
    phrases = sorted([("take off", "start"), ("take", "grab"), ("take", "hold"), ("zoo", "park")])
    # Many that nothing asks for, so that the one that is asked for lies in a later block.
    phrases = sorted([*phrases, *((f"m{number}", "other") for number in range(1000))])
    entries = "".join(f"0.5\n{phrase}\n{other}\n" for phrase, other in phrases)
    (tmp_path / "data" / "paraphrase-en.gz").write_bytes(gzip.compress(entries.encode()))
    return MeteorTables(tmp_path)


@NO_TABLES
def test_the_digits_of_the_program(monkeypatch):
    monkeypatch.setattr(meteor, "_TABLES", TABLES)
    captions, references = ([item[name] for item in RECORDED["items"]] for name in ("caption", "references"))
    found = [compute_meteor(*pair) for pair in zip(captions, references, strict=True)]
    assert found == pytest.approx([item["meteor"] for item in RECORDED["items"]], rel=1e-15, abs=0)
    assert compute_corpus_meteor(captions, references) == pytest.approx(RECORDED["corpus"], rel=1e-15)


@pytest.mark.slow  # the package has 100 MB
def test_the_digits_of_the_program_with_the_package(tmp_path):
    run_pip(Path(sys.executable), "--no-deps", "--target", str(tmp_path), "pycocoevalcap>=1.2")
    paths = os.pathsep.join([str(ROOT / "src"), str(tmp_path)])
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", __file__, "-k", "digits_of_the_program"]
    tested = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, cwd=ROOT)
    assert "1 passed" in tested.stdout, tested.stdout


def test_without_tables_it_has_another_name_and_is_no_higher(monkeypatch):
    assert (meteor.METEOR == "METEOR") == (meteor.SODA == "SODA_c") == (TABLES is not None)
    monkeypatch.setattr(meteor, "_TABLES", None)
    captions, references = ([item[name] for item in RECORDED["items"]] for name in ("caption", "references"))
    assert 0.5 * RECORDED["corpus"] < compute_corpus_meteor(captions, references) < RECORDED["corpus"]


def test_tables_are_looked_up_by_phrase(tables):
    assert tables.function_words == {"the", "a"}
    assert tables.find_synonyms("men") == tables.find_synonyms("man") == {"7"}  # by the list of exceptions
    assert tables.find_synonyms("boys") == {"1", "2"}  # by its ending
    assert tables.find_synonyms("glass") == frozenset()
    found = list(tables.find_paraphrases(["we", "take", "off"], 1))
    assert found == [(1, {"grab": 0, "hold": 1}), (2, {"start": 0})]
    assert list(tables.find_paraphrases(["zoo", "keeper"], 0)) == [(1, {"park": 0})]
    assert list(tables.find_paraphrases(["m500"], 0)) == [(1, {"other": 0})]
    assert list(tables.find_paraphrases(["aa"], 0)) == list(tables.find_paraphrases(["zz"], 0)) == []


def test_synonyms_and_paraphrases_match(tables, monkeypatch):
    monkeypatch.setattr(meteor, "_TABLES", tables)
    matches, chunks = align_words(["lads", "take", "off"], ["boy", "start"], tables)
    assert [(match.stage, match.words, match.others) for match in matches] == [
        (2, (0, 1), (0, 1)),
        (3, (1, 2), (1, 1)),
    ]
    assert chunks == 1
    # A synonym and a paraphrase, all content words: both shares are of 0.8 and 0.6.
    precision, recall = (0.8 + 2 * 0.6) / 3, (0.8 + 0.6) / 2
    assert compute_meteor("lads take off", ["boy start"]) == pytest.approx(1 / (0.15 / precision + 0.85 / recall))
    assert compute_meteor("lads take off", ["boy start"]) > compute_meteor("lads take off", ["girl start"]) > 0


@pytest.mark.parametrize("name", ["meteor-1.5.jar", "data/paraphrase-en.gz"])
def test_damaged_tables_are_named(tables, name):
    path = tables.folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"{path.name} cannot be read .* install pycocoevalcap again"):
        align_words(["lads"], ["boy", "zoo"], tables)


def test_tables_are_those_of_the_installed_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pycocoevalcap" / "meteor" / "data").mkdir(parents=True)
    spec = meteor_tables.find_spec("pycocoevalcap")
    monkeypatch.setattr(meteor_tables, "find_spec", lambda name: spec)
    if TABLES is None:
        assert find_meteor_tables() is None  # installed in part
        for name in ("meteor-1.5.jar", "data/paraphrase-en.gz"):
            (tmp_path / "pycocoevalcap" / "meteor" / name).touch()
        assert find_meteor_tables().folder == tmp_path / "pycocoevalcap" / "meteor"
    monkeypatch.setattr(meteor_tables, "find_spec", lambda name: None)
    assert find_meteor_tables() is None


def test_by_hand():
    assert compute_meteor("a dog runs", ["a cat", "a dog runs"]) == 1
    assert compute_meteor("", ["a dog"]) == compute_meteor("a dog", [""]) == compute_meteor("a dog", []) == 0
    # Two chunks of 4 matches: all words, in another order.
    assert compute_meteor("dog runs red car", ["red car dog runs"]) == pytest.approx(1 - 0.6 * (2 / 4) ** 0.2)
    # A content word of two against a content word of one, one chunk of one match.
    precision, recall = 0.75 / 1.5, 1.0
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert compute_meteor("red dog", ["dog"]) == pytest.approx(mean * (1 - 0.6))


def test_stems_count_less_than_words(monkeypatch):
    monkeypatch.setattr(meteor, "_TABLES", None)
    assert compute_meteor("dogs", ["dog"]) == pytest.approx(0.6)
    assert compute_meteor("she plays", ["she played"]) < compute_meteor("she plays", ["she plays"])


def test_that_of_a_data_set_is_of_sums():
    captions, truths = ["red dog", "blue cat"], [["red dog"], ["green cow"]]
    assert compute_corpus_meteor(captions, truths) == pytest.approx(0.5)
    assert compute_corpus_meteor([], []) == 0
