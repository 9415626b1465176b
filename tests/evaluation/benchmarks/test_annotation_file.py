"""Files of annotations as benchmarks: what is absent or wrong is found before anything is asked."""

import json

import numpy as np
import pytest
from shared_data import SHARED
from truth_files import write_hc_stvg

from llava_st_hf.evaluation.benchmarks.annotation_file import find_source, open_benchmark
from llava_st_hf.evaluation.benchmarks.catalogue import KNOWN_BENCHMARKS
from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.evaluation.runner import evaluate
from llava_st_hf.processing.media_llava_st import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def write(path, *records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture
def mine(clip, tmp_path):
    """Five records: two that can be asked, one absent, one wrong, one whose name comes again."""
    record = {"video": clip.name, "query": "it turns", "span_seconds": [1.0, 2.0], "id": "a"}
    others = [
        {"id": "b", "video": "gone.mp4"},
        {"id": "c", "span_seconds": [2, 1]},
        {"query": "it stops"},
        {"id": "d"},
    ]
    return write(tmp_path / "mine.jsonl", record, *(record | other for other in others))


def test_only_what_can_be_asked_is_an_item(mine, clip, make_model, processor, output_dir):
    benchmark = open_benchmark(find_source(str(mine), clip.parent)).fit(20, 54)
    assert [benchmark.get_id(index) for index in range(len(benchmark))] == ["a", "d"]
    assert [item.id for item in benchmark.absent] == ["b"]
    assert [name for name, _ in benchmark.unusable] == ["c", "a"]
    assert benchmark.name == "mine.jsonl (partial: 2 of 3 items)"
    assert "2 of 3 items (66.7%) can be asked" in benchmark.describe()
    model = make_model(["{<t_25><t_51>}"] * 2)
    metrics = evaluate(model, processor, benchmark, output_dir, quiet=True)
    assert metrics["tasks"]["tvg"]["items"] == 2
    assert metrics["tasks"]["tvg"]["metrics"]["m_tIoU"] > 0.9
    assert model.num_encoded == 1  # both are about one clip
    assert (metrics["settings"]["absent_items"], metrics["settings"]["unreadable_records"]) == (1, 2)


def test_a_file_of_absent_media_is_refused(mine, tmp_path):
    with pytest.raises(InputError, match=r"no item of mine.jsonl can be asked: the media of 3 are absent"):
        open_benchmark(find_source(str(mine), tmp_path))


def test_a_protocol_that_scores_every_frame_gets_the_truth_at_every_frame(tmp_path, clip):
    path = write_hc_stvg(tmp_path / "val_v2.json")
    for name in json.loads(path.read_text()):
        (tmp_path / name).write_bytes(clip.read_bytes())
    benchmark = open_benchmark(find_source("hc-stvg-v2", tmp_path))
    benchmark.check_protocol(PROTOCOLS["community"])
    truth = benchmark.read_truth(0, None, (), PROTOCOLS["community"])
    assert len(truth.media.frame_indices) == next(iter(json.loads(path.read_text()).values()))["img_num"]
    assert np.isclose(truth.spans[0].start_seconds, truth.tubes[0].boxes[0].seconds)
    with pytest.raises(InputError, match="is scored by default, reference, community only"):
        benchmark.check_protocol(PROTOCOLS["vue"])


def test_names_that_are_not_known_or_files_that_are_not_there(tmp_path):
    cases = [
        (("charades",), "The nearest is charades-sta"),
        (("charades-sta",), "data is missing: charades-sta needs a folder with charades_sta_test.txt"),
        (("charades-sta", tmp_path), "has no charades_sta_test.txt, see https"),
        (("charades-sta", tmp_path / "nowhere"), "which is no folder"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            find_source(*arguments)


def test_each_known_benchmark_says_what_it_is():
    from llava_st_hf.data.readers.registry import FORMATS

    for known in KNOWN_BENCHMARKS.values():
        assert known.format is None or known.task in (None, *FORMATS[known.format].reader.tasks), known.name
        assert (known.items is None or known.items > 0) and known.files and known.homepage.startswith("https://"), (
            known.name
        )


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_absent_media_of_published_annotations_are_counted():
    folder = SHARED / "real_annotations"
    source = find_source(str(folder / "vidstg_val_excerpt.json"), SHARED / "real_media", task="tvg")
    benchmark = open_benchmark(source)
    assert (len(benchmark), len(benchmark.absent), len(benchmark.unusable)) == (49, 1345, 0)
    assert benchmark.name == "vidstg_val_excerpt.json (partial: 49 of 1,394 items)"
    for name in ("charades_sta_test_excerpt.txt", "qvhighlights_val_excerpt.jsonl", "tacos_test_excerpt.json"):
        with pytest.raises(InputError, match="are absent and 0 cannot be scored"):
            open_benchmark(find_source(str(folder / name), SHARED / "real_media"))
