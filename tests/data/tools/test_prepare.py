import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard
from local_hub import LocalHub
from st_align_records import to_st_align

from llava_st_cli import main
from llava_st_hf import Mixture
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.shapes import ShapesDataset, encode_sample
from llava_st_hf.data.tools import prepare
from llava_st_hf.data.tools.prepare import PUBLISHED_COUNTS, Preparation, fetch_release, format_tasks
from llava_st_hf.processing.media_llava_st import InputError

# By stage: source, folder of the media in the mixture of the release, task.
SOURCES = {
    2: [("charades_tvg", "/mnt/authors/Charades/videos", "tvg"), ("refcoco", "coco/train2014", "rec")],
    3: [("vidstg", "vidor/videos", "stvg")],
}


def write_release(folder: Path) -> Path:
    """Write a release as the published one is: JSON of each source, and a mixture for each stage; and all media."""
    release = folder / "release"
    (release / "json").mkdir(parents=True)
    for stage, sources in SOURCES.items():
        entries = []
        for source, data_folder, task in sources:
            media = folder / "media" / Path(data_folder).parent.name / Path(data_folder).name
            media.mkdir(parents=True)
            shapes = ShapesDataset([task], 3, num_frames=8, size=32, difficulty="easy", encode=True)
            records = []
            for index in range(len(shapes)):
                sample = encode_sample(shapes[index]) if shapes[index].media[0].content is None else shapes[index]
                name = f"{index}{Path(sample.media[0].path).suffix}"
                (media / name).write_bytes(sample.media[0].content)
                record = to_st_align(sample)
                records.append({**record, "id": index, sample.media_type: name})
            (release / "json" / f"{source}.json").write_text(json.dumps(records))
            entries.append({"json_path": f"json/{source}.json", "data_folder": data_folder, "source": source})
        (release / f"stage{stage}.yaml").write_text(yaml.safe_dump({"datasets": entries}))
    return release


@pytest.fixture
def release(tmp_path) -> Path:
    return write_release(tmp_path)


def run(release: Path, *more: str) -> int:
    folder = release.parent
    places = ["--to", folder / "out", "--media", folder / "media", "--release", release]
    return main(["data", "prepare", "st-align", *map(str, places), "--quiet", *more])


def test_what_is_prepared_streams_as_a_mixture(release, capsys):
    assert run(release, "--license", "refcoco=CC-BY-4.0") == 0
    out = release.parent / "out"
    mixture = Mixture(out / "stage2.yaml")
    read = [mixture[index] for index in range(len(mixture))]
    assert (
        sorted((record.source, record.task) for record in read)
        == [("charades_tvg", "tvg")] * 3 + [("refcoco", "rec")] * 3
    )
    assert all(isinstance(record, Sample) and record.media[0].content for record in read)
    assert [entry["license"] for entry in yaml.safe_load((out / "stage2.yaml").read_text())["datasets"]] == [
        "unknown",
        "CC-BY-4.0",
    ]
    assert Mixture(out / "stage3.yaml")[0].source == "vidstg"
    assert "cc-by-4.0" in (out / "stage2" / "refcoco" / "README.md").read_text().lower()
    assert str(release.parent) not in (out / "stage2.yaml").read_text()
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines() if "vidstg" in line] == [
        ["3", "vidstg", "3", "0", "0", "3", "unknown"]
    ]


def test_what_is_missing_is_named_and_the_next_run_goes_on(release, capsys, monkeypatch):
    media = release.parent / "media" / "vidor"
    shutil.move(media, release.parent / "elsewhere")
    assert run(release) == 1
    said = capsys.readouterr().err
    assert "media of 3 of 3 records are not in" in said and prepare.ORIGINS["vidor"] in said
    out = release.parent / "out"
    assert not (out / "stage3.yaml").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "stage2").rglob("*.parquet")}
    shutil.move(release.parent / "elsewhere", media)
    surveyed = []
    survey = Preparation._survey

    def note(self, stage, name, *more):
        surveyed.append(name)
        return survey(self, stage, name, *more)

    monkeypatch.setattr(Preparation, "_survey", note)
    assert run(release) == 0
    assert surveyed == ["vidstg"]  # the others are neither read nor written again
    assert {path: path.stat().st_mtime_ns for path in (out / "stage2").rglob("*.parquet")} == before
    assert len(Mixture(out / "stage3.yaml")) == 3


def test_a_mixture_of_somebody_else_stays(release, capsys):
    mixture = release.parent / "out" / "stage2.yaml"
    mixture.parent.mkdir()
    mixture.write_text("mine: 1")
    assert run(release) == 1
    assert "holds stage2.yaml of no preparation: name another folder" in capsys.readouterr().err
    assert mixture.read_text() == "mine: 1"


def test_a_source_that_cannot_be_used_does_not_stop_the_others(release, capsys):
    path = release / "json" / "charades_tvg.json"
    records = json.loads(path.read_text())
    path.write_text(json.dumps([{**record, "conversations": "none"} for record in records]))
    assert run(release, "--stage", "2") == 1
    assert "charades_tvg: 3 of 3 records cannot be used: `llava-st data check" in capsys.readouterr().err
    (entry,) = yaml.safe_load((release.parent / "out" / "stage2.yaml").read_text())["datasets"]
    assert entry["source"] == "refcoco"


def test_a_source_that_changed_is_refused(release, capsys):
    assert run(release, "--stage", "2") == 0
    path = release / "json" / "refcoco.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:2]))
    assert run(release, "--stage", "2") == 1
    assert "num_records" in capsys.readouterr().err


def test_a_dry_run_counts_and_writes_nothing(release, capsys):
    shutil.rmtree(release.parent / "media")
    (release.parent / "media").mkdir()
    assert run(release, "--dry-run") == 0
    assert not (release.parent / "out").exists()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "tvg", "3", "149", "K"] in rows  # counted without their media
    assert ["3", "stvg", "3", "81", "K"] in rows
    assert ["3", "tgc", "0", "459", "K"] in rows
    assert ["2", "charades_tvg", "3", "3", "0", "unknown"] in rows


def test_one_source_after_the_other(release):
    out = release.parent / "out"
    assert run(release, "--sources", "refcoco", "--stage", "2") == 0
    assert [path.name for path in (out / "stage2").iterdir()] == ["refcoco"]
    assert run(release, "--sources", "charades_tvg") == 0
    entries = yaml.safe_load((out / "stage2.yaml").read_text())["datasets"]
    assert [entry["source"] for entry in entries] == ["charades_tvg", "refcoco"]


def prepare_on_hub(release: Path, repository: str = "me/st-align", *more: str) -> int:
    places = ["--to", repository, "--media", release.parent / "media", "--release", release]
    return main(["data", "prepare", "st-align", *map(str, places), "--quiet", *more])


LICENSES = [word for name in ("charades_tvg", "refcoco", "vidstg") for word in ("--license", f"{name}=CC-BY-4.0")]


def test_each_source_goes_to_the_hub_when_it_is_whole(hub, release, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    media = tmp_path / "media" / "vidor"
    shutil.move(media, tmp_path / "elsewhere")
    hub.fail("/commit/", 500, skip=1)  # of the second source
    assert prepare_on_hub(release, "me/st-align", *LICENSES) == 1
    assert "run the same again" in capsys.readouterr().err.splitlines()[-1]
    hub.heal()
    assert prepare_on_hub(release, "me/st-align", *LICENSES) == 1  # vidstg is missing
    shutil.move(tmp_path / "elsewhere", media)
    hub.requests.clear()
    assert prepare_on_hub(release, "me/st-align", *LICENSES) == 0
    assert hub.count()["PUT lfs-storage"] == 1  # what was there is not sent again
    repository = hub.repositories["dataset", "me/st-align"]
    assert repository.private and len(repository.commits) == 4
    files = hub.get_files("me/st-align", "dataset")
    sources = ("stage2/charades_tvg", "stage2/refcoco", "stage3/vidstg")
    shards = {f"{source}/data/train-00000-of-00001.parquet" for source in sources}
    assert files.keys() == {".gitattributes", "README.md", "stage2.yaml", "stage3.yaml", *shards}
    assert all(files[name] == (tmp_path / "st-align" / name).read_bytes() for name in shards)
    assert [entry["json_path"] for entry in yaml.safe_load(files["stage2.yaml"])["datasets"]] == [
        f"hf://datasets/me/st-align/{source}/data" for source in sources[:2]
    ]
    card = DatasetCard(files["README.md"].decode())
    assert [config["config_name"] for config in card.data.configs] == [name.replace("/", "-") for name in sources]
    assert card.data.license == ["cc-by-4.0"]
    (row,) = (line.split() for line in card.text.splitlines() if "vidstg" in line)
    assert row == [
        "|",
        "3",
        "|",
        "vidstg",
        "|",
        "stvg",
        "|",
        "3",
        "|",
        "CC-BY-4.0",
        "|",
        prepare.ORIGINS["vidstg"],
        "|",
    ]
    assert 'load_dataset("me/st-align", "stage2-charades_tvg", split="train", streaming=True)' in card.text
    assert not any(str(tmp_path).encode() in files[name] for name in ("README.md", "stage2.yaml", "stage3.yaml"))
    hub.requests.clear()
    assert prepare_on_hub(release, "me/st-align", *LICENSES) == 0
    assert len(repository.commits) == 4 and "POST commit" not in hub.count()


def test_what_cannot_be_sent_is_refused_before_anything_is_written(hub, release, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hub.add("me/taken", {"README.md": b"---\ntags: [bert]\n---\n", "a.txt": b""}, "dataset")
    for name, more, said in (
        ("me/st-align", [], "the licence of 'charades_tvg' is not known"),
        ("you/st-align", LICENSES, "may not write there"),
        ("me/taken", LICENSES, "holds other content"),
        ("./me/st-align", ["--public"], "is a folder"),
    ):
        assert prepare_on_hub(release, name, *more) == 1
        (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("llava-st: error"))
        assert said in error
        assert not (tmp_path / "st-align").exists() and not (tmp_path / "taken").exists()


def test_the_published_counts_are_those_of_the_paper():
    assert {stage: len(tasks) for stage, tasks in PUBLISHED_COUNTS.items()} == {1: 1, 2: 6, 3: 14}
    assert sum(sum(tasks.values()) for tasks in PUBLISHED_COUNTS.values()) == 4331  # thousands
    assert "tgc" in format_tasks([prepare.PreparedSource(3, "a", prepare.SourceFacts("a"), tasks={"tvg": 2})])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stages": [1]}, "stage is 1"),
        ({"sources": ["kinetics"]}, "sources is 'kinetics': choose from charades_tvg, refcoco, vidstg"),
        ({"licenses": {"kinetics": "MIT"}}, "license is 'kinetics'"),
    ],
)
def test_what_there_is_not_is_refused(release, options, said):
    with pytest.raises(InputError, match=said):
        Preparation(release, release.parent / "media", **options)
    with pytest.raises(InputError, match="release is"):
        Preparation(release / "json", release)


def test_a_release_comes_from_the_hub(release, tmp_path):
    files = {str(path.relative_to(release)): path.read_bytes() for path in release.rglob("*") if path.is_file()}
    with LocalHub() as hub, hub.reached(tmp_path / "cache"):
        hub.add("me/st-align", files | {"clip.mp4": b"0"}, "dataset")
        folder = fetch_release("me/st-align")
        assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(files)
        with pytest.raises(InputError, match="release is 'me/none'"):
            fetch_release("me/none")
