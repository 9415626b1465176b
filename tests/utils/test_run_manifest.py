import pytest

from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.utils.run_manifest import RunManifest

SETTINGS = {"source": "clips", "seed": 0, "shapes": {"size": [64, 64], "num_samples": 8}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "manifest.json"


def test_work_goes_on_where_it_was(path):
    manifest = RunManifest(path, SETTINGS)
    assert manifest.load() is False
    manifest.save(num_written=3, shards=[1])
    manifest.save(num_written=4)
    again = RunManifest(path, {**SETTINGS, "shapes": {"size": (64, 64), "num_samples": 8}})
    assert again.load() is True
    assert again.progress == {"num_written": 4, "shards": [1]}
    again.remove()
    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed=0, and now seed is 1"),
        (
            {"shapes": {"size": [32, 32], "num_samples": 8}},
            r"shapes.size=\[64, 64\], and now .* is \[32, 32\]",
        ),
        ({"more": True}, "more=None, and now more is True"),
        ({"source": "x" * 10**6}, "source='clips'"),
    ],
)
def test_other_settings_are_named(path, changes, words):
    RunManifest(path, SETTINGS).save()
    with pytest.raises(InputError, match=words) as error:
        RunManifest(path, {**SETTINGS, **changes}).load()
    assert len(str(error.value)) < 1000
    assert str(path.parent) in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", "7", '{"progress": 1}', "\xff"])
def test_a_file_that_is_no_manifest(path, content):
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        RunManifest(path, SETTINGS).load()
    assert path.read_bytes() == content.encode("latin-1")


def test_what_is_written_is_named(path):
    RunManifest(path, SETTINGS).save()
    with pytest.raises(InputError, match=r"^a\.jsonl holds a run with source='clips'"):
        RunManifest(path, {"source": "other"}, output="a.jsonl").load()
