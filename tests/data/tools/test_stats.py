import json

import numpy as np
import pytest
from PIL import Image

from llava_st_hf import LlavaSTProcessor
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.tools.check import TokenCounter
from llava_st_hf.data.tools.stats import DataStatistics, collect_statistics, write_statistics
from llava_st_hf.processing.media_llava_st import InputError


def make(task, answer, media, id="1"):
    messages = ({"role": "user", "content": "When? {<t=0.0><t=1.0>}"}, {"role": "assistant", "content": answer})
    return Sample(id=id, source="kitchen", task=task, media_type="video", media=media, messages=messages)


def test_shares_of_answers_by_task(clip, records):
    media = (Media(path=str(clip)),)  # 320x240
    statistics = collect_statistics(
        [
            make("tvg", "{<t=0.25><t=0.5>}", media),
            make("stvg", "{<t=0><t=1>} <t=0>:[<x=0><y=0><x=0.5><y=0.5>], <t=1>:[<x=0><y=0><x=1><y=1>]", media),
            make("svg", "<t=1s>:[<x=32px><y=24px><x=64px><y=48px>]", media),
            records[1],
            make("tvg", "{<t=1s><t=99s>}", media),
        ]
    )
    assert statistics.span_shares == {"tvg": [0.25], "stvg": [1.0]}
    assert statistics.box_shares["stvg"] == [0.25, 1.0]
    assert statistics.box_shares["svg"] == pytest.approx([0.01])
    assert statistics.tube_lengths == {"stvg": [2], "svg": [1]}
    assert statistics.counts == {("kitchen", task): 1 for task in ("tvg", "stvg", "svg")}
    assert (statistics.num_records, statistics.num_read, statistics.num_skipped) == (5, 5, 2)
    facts = statistics.to_dict()
    assert facts["box_share_of_frame"]["stvg"]["median"] == 0.625
    assert facts["tokens"] == {}


def test_files_are_opened_for_units_only(monkeypatch):
    monkeypatch.setattr("llava_st_hf.data.tools.stats.probe_media", lambda sample: pytest.fail("opened"))
    sample = make("tvg", "{<t=0.25><t=0.5>}", (Media(path="nowhere.mp4"),))
    assert collect_statistics([sample]).span_shares == {"tvg": [0.25]}


def test_a_part_is_chosen_at_random_and_the_same_each_time():
    media = (Media(path="nowhere.mp4"),)
    records = [make("tvg", f"{{<t=0><t={index / 1000}>}}", media) for index in range(1000)]
    first, second = (collect_statistics(records, max_records=50) for _ in range(2))
    other = collect_statistics(records, max_records=50, seed=1)
    assert first == second != other
    assert first.num_read == 50 and first.num_records == 1000
    assert 0.3 < np.mean(first.span_shares["tvg"]) < 0.7
    assert collect_statistics(records, max_records=1000).num_read == 1000
    with pytest.raises(InputError, match="max_records"):
        collect_statistics(records, max_records=0)


def test_each_kind_of_number_has_its_plot(checkpoint, tmp_path):
    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    shapes, done = ShapesDataset(["stvg", "dvc", "rec"], num_samples=40), []
    statistics = collect_statistics(shapes, processor=processor, progress=done.append)
    assert len(done) == 40
    first = shapes[0]
    assert TokenCounter(processor).count(first) in statistics.num_tokens[first.task]
    paths = write_statistics(statistics, tmp_path / "new" / "plots")
    names = {"stats.json", "records.png", "span_lengths.png", "box_sizes.png", "boxes_per_tube.png", "tokens.png"}
    assert {path.name for path in paths} == names
    for path in paths[1:]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[1] > 900 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    assert json.loads(paths[0].read_text()) == statistics.to_dict()
    before = paths[2].read_bytes()
    assert write_statistics(statistics, tmp_path / "new" / "plots")[2].read_bytes() == before


def test_plots_of_an_earlier_run_do_not_stay(tmp_path):
    write_statistics(DataStatistics(span_shares={"tvg": [0.5]}), tmp_path)
    assert (tmp_path / "span_lengths.png").exists()
    (tmp_path / "mine.png").touch()
    paths = write_statistics(DataStatistics(tube_lengths={"svg": [3, 900]}), tmp_path)
    assert sorted(path.name for path in paths) == ["boxes_per_tube.png", "stats.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes_per_tube.png", "mine.png", "stats.json"]


def test_many_sources_with_strange_names_make_one_legible_plot(tmp_path):
    statistics = DataStatistics()
    for index in range(40):
        statistics.counts[f"${index}_{{x$" + "y" * 60, "tvg"] = index + 1
    (_, path) = write_statistics(statistics, tmp_path)
    assert Image.open(path).height < 3000
