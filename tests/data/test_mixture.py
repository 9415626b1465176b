import json
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pyarrow as pa
import pytest
from accelerate.data_loader import BatchSamplerShard
from PIL import Image
from pyarrow import parquet
from torch.utils.data import DataLoader, get_worker_info

from llava_st_hf.data.mixture import Mixture
from llava_st_hf.data.mixture_spec import MixtureSpec, SourceSpec
from llava_st_hf.data.readers.canonical import ParquetRows
from llava_st_hf.data.samples import Sample, get_features
from llava_st_hf.data.skips import SkippedRecord, TooManySkipsError
from llava_st_hf.processing.media_llava_st import InputError


def write_lines(path, count, first=0, text=""):
    """Write text-only records of the release."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        for number in range(first, first + count):
            turns = [{"from": "human", "value": f"Who?{text}"}, {"from": "gpt", "value": "I."}]
            file.write(json.dumps({"id": f"{path.stem}{number}", "conversations": turns}) + "\n")
    return path


def write_parquet(path, count, rows_per_group):
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]
    rows = [
        {"id": f"{path.stem}{number}", "task": "conversation", "media_type": "text", "media": [], "messages": turns}
        for number in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=get_features().arrow_schema)
    parquet.write_table(table, path, row_group_size=rows_per_group)
    return path


def make_spec(*entries, **options):
    return MixtureSpec.from_dict({"datasets": list(entries), **options})


def read_ids(mixture, indices=None):
    return [mixture[index].id for index in (range(len(mixture)) if indices is None else indices)]


def test_records_that_two_mixtures_visit_are_counted_by_file(tmp_path):
    lines, rows = write_lines(tmp_path / "lines.jsonl", 10), write_parquet(tmp_path / "rows.parquet", 10, 5)
    (tmp_path / "other").mkdir()
    # The same file by two entries, and by another name.
    train = make_spec(
        {"json_path": str(lines), "sampling_strategy": "first:3"},
        {"json_path": str(tmp_path / "other" / ".." / "lines.jsonl"), "sampling_strategy": "end:4"},
        {"json_path": str(rows), "sampling_strategy": "first:5"},
    )
    held_out = make_spec(
        {"json_path": str(lines), "sampling_strategy": "first:8"},
        {"json_path": str(rows), "sampling_strategy": "end:5"},
        {"json_path": str(write_lines(tmp_path / "new.jsonl", 2))},
    )
    assert Mixture(held_out).count_shared(Mixture(train)) == {str(lines): 5}
    assert Mixture(train).count_shared(Mixture(held_out)) == {str(lines): 5}


@pytest.fixture
def spec(tmp_path):
    """A source without blocks, one with blocks, and one that is visited twice: 60 + 40 + 2 x 10 records."""
    return make_spec(
        {"json_path": str(write_lines(tmp_path / "lines.jsonl", 60))},
        {"json_path": str(write_parquet(tmp_path / "rows.parquet", 40, 5))},
        {"json_path": str(write_lines(tmp_path / "twice.jsonl", 10)), "weight": 2},
    )


WANTED = {
    **{f"lines{number}": 1 for number in range(60)},
    **{f"rows{number}": 1 for number in range(40)},
    **{f"twice{number}": 2 for number in range(10)},
}


# ------------------------------------------------------------------------------------------------ the file


def test_a_mixture_in_the_published_form(tmp_path):
    for name in ("tvg", "dvc", "rec"):
        write_lines(tmp_path / "annotations" / f"{name}.jsonl", 10)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "media").mkdir()
    path = tmp_path / "recipes" / "stage2.yaml"
    path.write_text(
        f"""
        datasets:
          - json_path: ../annotations/{{tvg,dvc}}.jsonl
            data_folder: ../media
            source: charades
            sampling_strategy: first:4
          - json_path: {tmp_path}/annotations/rec.jsonl
            sampling_strategy: random:25%
        """
    )
    mixture = Mixture(path)
    assert [(one.name, one.num_records, one.num_chosen, one.num_visits) for one in mixture.describe()] == [
        ("charades", 10, 4, 4),
        ("charades", 10, 4, 4),
        ("rec", 10, 3, 3),
    ]
    assert len(mixture) == mixture.epoch_length == 11
    assert {record.source for record in map(mixture.__getitem__, range(11))} == {"charades", "rec"}
    assert mixture.format_table().splitlines() == [
        "source    records  chosen  weight  per epoch",
        "charades       10       4       1          4",
        "charades       10       4       1          4",
        "rec            10       3       1          3",
        "total          30      11                 11",
    ]


@pytest.mark.parametrize(
    ("strategy", "chosen"),
    [
        ("all", range(7)),
        ("first:2", range(2)),
        ("first: 2", range(2)),
        ("end:2", range(5, 7)),
        ("first:10%", range(1)),
        ("end:50%", range(3, 7)),
        ("end:100%", range(7)),
        ("first:14.3%", range(2)),
        ("first:9", range(7)),
        ("random:9", range(7)),
    ],
)
def test_sampling_strategies(strategy, chosen):
    assert SourceSpec("a.json", sampling_strategy=strategy).choose(7, 0, 0) == chosen


def test_percentages_are_rounded_up_exactly():
    assert len(SourceSpec("a.json", sampling_strategy="first:7%").choose(100, 0, 0)) == 7
    assert len(SourceSpec("a.json", sampling_strategy="first:0.07%").choose(10_000, 0, 0)) == 7
    assert len(SourceSpec("a.json", sampling_strategy="random:7%").choose(101, 0, 0)) == 8


def test_a_random_choice_depends_on_seed_and_place():
    def choose(seed=0, place=0):
        return SourceSpec("a.json", sampling_strategy="random:10").choose(1000, seed, place).tolist()

    assert choose() == choose()
    assert choose() == sorted(set(choose()))
    assert len({tuple(choose(*words)) for words in ((0, 0), (1, 0), (0, 1))}) == 3


def test_an_own_seed_and_the_common_one(tmp_path):
    path = str(write_lines(tmp_path / "a.jsonl", 50))
    orders = [
        read_ids(Mixture(make_spec({"json_path": path, **own}, **common)))
        for own, common in (({}, {}), ({}, {"seed": 0}), ({}, {"seed": 1}), ({"seed": 1}, {}))
    ]
    assert orders[0] == orders[1] != orders[2] == orders[3]


def test_options_of_a_reader_are_keys_of_its_source(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    record = {"image": "a.jpg", "query": "it", "box": [100, 100, 400, 400]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    (tmp_path / "mixture.yaml").write_text(
        "datasets: [{json_path: a.jsonl, data_folder: ., unit: thousandth, box_format: xywh}]"
    )
    (sample,) = list(Mixture(tmp_path / "mixture.yaml"))
    assert sample.messages[1]["content"] == "[<x=0.1><y=0.1><x=0.5><y=0.5>]"
    with pytest.raises(InputError, match=r"datasets: source 'a': vidor_folder is no option of the format user_jsonl"):
        Mixture(make_spec({"json_path": str(tmp_path / "a.jsonl"), "vidor_folder": "x"}))
    # A folder starts from that of the mixture, as all paths of it.
    entry = {"json_path": "b.json", "vidor_folder": "vidor"}
    (source,) = MixtureSpec.from_dict({"datasets": [entry]}, tmp_path).datasets
    assert source.options == {"vidor_folder": str(tmp_path / "vidor")}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"json_pth": "a"}, r"unknown key 'json_pth': did you mean 'json_path'\? The keys are json_path, data_folder"),
        ({"json_path": "a", "sampling": "all"}, "unknown key 'sampling'"),
        ({"json_path": "a", 3: "all"}, "unknown key 3"),
        ("a.json", r"the entry is 'a.json': give keys"),
        ({}, "json_path is None and id is None"),
        ({"json_path": "a", "id": "b/c"}, "json_path is 'a' and id is 'b/c'"),
        ({"json_path": 3}, "json_path is 3: give a text"),
        ({"json_path": {"tvg": None}}, r"json_path is \{'tvg': None\}: give a text \(in quotes"),
        ({"json_path": "a", "source": " "}, "source is ' '"),
        ({"json_path": "a", "revision": "b"}, "revision is 'b', but it goes with id"),
        ({"id": "a/b", "format": "canonical"}, "format is 'canonical', but it goes with json_path"),
        ({"id": "a/b", "unit": "fraction"}, "unit is 'fraction', but it goes with json_path"),
        ({"json_path": "a", "num_frames": 3}, "unknown key 'num_frames'"),
        ({"json_path": "a", "options": {}}, "unknown key 'options'"),
        ({"json_path": "a", "task": "vqa"}, "task is 'vqa': choose one of"),
        ({"json_path": "a", "weight": 0}, "weight is 0: give a number above 0"),
        ({"json_path": "a", "weight": float("nan")}, "weight is nan"),
        ({"json_path": "a", "weight": "2"}, "weight is '2'"),
        ({"json_path": "a", "seed": 1.5}, "seed is 1.5: give a whole number"),
        ({"json_path": "a", "required": "yes"}, "required is 'yes': give true or false"),
        *(
            ({"json_path": "a", "sampling_strategy": value}, "sampling_strategy is .*: give all, or first:N")
            for value in (
                "some",
                "first",
                "first:0",
                "end:-3",
                "first:1.5",
                "random:0%",
                "random:101%",
                "all:3",
                5,
                None,
            )
        ),
    ],
)
def test_an_entry_that_does_not_fit_is_named(entry, message):
    with pytest.raises(InputError, match=rf"datasets\[1\]: .*{message}"):
        make_spec({"json_path": "fine.json"}, entry)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("datasets: []", "datasets is empty"),
        ("datasets: a.json", "datasets is 'a.json': give a list"),
        ("- a.json", "the mixture is .*: give keys"),
        ("", "the mixture is empty: give keys"),
        ("datasets: [{json_path: a}]\nseeds: 3", "unknown key 'seeds': did you mean 'seed'"),
        ("datasets: [{json_path: a}]\nseed: x", "seed is 'x'"),
        ("datasets: [{json_path: a}]\nmax_skip_share: 2", "max_skip_share is 2: give a share"),
        ("datasets: [{json_path: a}]\nmax_skip_share: .nan", "max_skip_share is nan"),
        ("datasets: {", "is no YAML"),
        ("datasets: [{json_path: a}]\ndatasets: [{json_path: b}]", "the key 'datasets' is there twice"),
        ("datasets: [{json_path: a, weight: 1, weight: 2}]", "the key 'weight' is there twice"),
        ("datasets: [{json_path: !!python/object/apply:os.getcwd []}]", "is no YAML"),
        ("datasets: [{json_path: missing.json}]", "source 'missing': .*missing.json"),
        ("datasets: [{json_path: ~/a.json}]", "source 'a'"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, content, message):
    path = tmp_path / "mixture.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        Mixture(path)
    with pytest.raises(InputError, match="cannot be read"):
        MixtureSpec.from_yaml(tmp_path / "missing.yaml")


def test_a_folder_of_media_that_is_missing_is_named(tmp_path):
    entry = {"json_path": str(write_lines(tmp_path / "a.jsonl", 1)), "data_folder": "~/videos"}
    with pytest.raises(InputError, match=r"data_folder is .*~/videos', which is no folder: .*not expanded"):
        Mixture(make_spec(entry))


def test_an_empty_source(tmp_path, caplog):
    empty = {"json_path": str(write_lines(tmp_path / "empty.jsonl", 0)), "format": "st_align"}
    full = {"json_path": str(write_lines(tmp_path / "full.jsonl", 3))}
    mixture = Mixture(make_spec(full, empty, full))
    assert "source 'empty' has no records" in caplog.text
    assert Counter(read_ids(mixture)) == {f"full{number}": 2 for number in range(3)}
    assert [one.num_visits for one in mixture.describe()] == [3, 0, 3]
    with pytest.raises(InputError, match="source 'empty' has no records, but is required"):
        Mixture(make_spec(full, {**empty, "required": True}))
    with pytest.raises(InputError, match="the mixture has no records"):
        Mixture(make_spec(empty))


def test_weights(tmp_path, monkeypatch):
    path = str(write_lines(tmp_path / "a.jsonl", 10))
    half = Mixture(make_spec({"json_path": path, "weight": 0.5}), num_epochs=2)
    first, second = read_ids(half, range(5)), read_ids(half, range(5, 10))
    assert len(set(first)) == len(set(second)) == 5
    assert not set(first) & set(second)
    with pytest.raises(InputError, match=r"weight is 0\.01 for source 'a', which leaves none of its 10 records"):
        Mixture(make_spec({"json_path": path, "weight": 0.01}))
    with pytest.raises(InputError, match=r"weight is 1000000000\.0: give a number above 0, up to 1000"):
        make_spec({"json_path": path, "weight": 1e9})
    monkeypatch.setattr("llava_st_hf.data.mixture_spec.MAX_WEIGHT", 1e10)
    with pytest.raises(InputError, match="give at most 4,294,967,295"):
        Mixture(make_spec({"json_path": path, "weight": 1e9}))


def test_required_sources(tmp_path):
    spec = make_spec(
        {"json_path": "a.json", "required": True}, {"json_path": "b.json"}, {"id": "o/n", "required": True}
    )
    assert spec.required_sources == ("a", "o/n")


# ------------------------------------------------------------------------------------------------ the order


def test_an_item_depends_on_its_number_alone(spec):
    mixture = Mixture(spec, num_epochs=3, batch_size=4, num_readers=2)
    assert len(mixture) == 360
    ids = read_ids(mixture)
    for epoch in range(3):
        assert Counter(ids[120 * epoch : 120 * (epoch + 1)]) == WANTED
    assert ids[:120] != ids[120:240]
    draw = random.Random(0)
    indices = [draw.randrange(360) for _ in range(100)]
    other = Mixture(spec, num_epochs=5, batch_size=4, num_readers=2)
    assert read_ids(other, indices) == [ids[index] for index in indices]
    assert read_ids(pickle.loads(pickle.dumps(mixture)), indices) == [ids[index] for index in indices]
    for index in (360, -1):
        with pytest.raises(IndexError):
            mixture[index]


@pytest.mark.parametrize("name", ["num_epochs", "batch_size", "num_readers"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_counts_are_whole_numbers(spec, name, value):
    with pytest.raises(InputError, match=f"{name} is {value}: give a whole number from 1"):
        Mixture(spec, **{name: value})


def test_a_chosen_part_of_blocks(tmp_path):
    path = str(write_parquet(tmp_path / "rows.parquet", 40, 5))
    for strategy, allowed in (("first:12", range(12)), ("end:12", range(28, 40)), ("random:12", range(40))):
        mixture = Mixture(make_spec({"json_path": path, "sampling_strategy": strategy}), batch_size=2, num_readers=2)
        ids = read_ids(mixture)
        assert len(set(ids)) == len(ids) == 12
        assert set(ids) <= {f"rows{number}" for number in allowed}


def test_bad_records_are_skipped_in_their_place(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", 5)
    path.write_bytes(path.read_bytes() + b'{"id": "bad", "conversations": 3}\n{\n')
    records = [Mixture(make_spec({"json_path": str(path)}))[index] for index in range(7)]
    assert Counter(type(record) for record in records) == {Sample: 5, SkippedRecord: 2}
    assert {record.id for record in records if isinstance(record, SkippedRecord)} == {"bad", "record 6"}


# ------------------------------------------------------------------------------------------------ the readers


def collate(records):
    """Return the ids of a batch, and which worker read it."""
    worker = get_worker_info()
    return 0 if worker is None else worker.id, [record.id for record in records]


def make_sampler(mixture, num_processes, process, first_batch=0):
    """Return the batches of one of several processes, as accelerate deals them."""
    return BatchSamplerShard(mixture.make_batch_sampler(first_batch), num_processes, process, even_batches=False)


def make_loader(mixture, num_workers=0, **options):
    return DataLoader(
        mixture, batch_sampler=mixture.make_batch_sampler(**options), num_workers=num_workers, collate_fn=collate
    )


@pytest.mark.parametrize("num_readers", [1, 2, 4])
def test_processes_share_the_records(spec, num_readers):
    mixture = Mixture(spec, num_epochs=2, batch_size=7, num_readers=num_readers)
    batches = {}
    for process in range(num_readers):
        own = [read_ids(mixture, batch) for batch in make_sampler(mixture, num_readers, process)]
        batches.update({process + num_readers * step: ids for step, ids in enumerate(own)})
    ids = [id for number in sorted(batches) for id in batches[number]]
    assert ids == read_ids(mixture)
    assert Counter(ids) == {id: 2 * count for id, count in WANTED.items()}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_workers_share_the_records(spec, num_workers):
    mixture = Mixture(spec, batch_size=7, num_readers=num_workers)
    batches = list(make_loader(mixture, num_workers))
    assert [worker for worker, _ in batches] == [number % num_workers for number in range(len(batches))]
    assert [id for _, ids in batches for id in ids] == read_ids(mixture)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_is_resumed_at_any_step(spec, num_workers):
    def open_mixture():
        return Mixture(spec, num_epochs=2, batch_size=7, num_readers=max(num_workers, 1))

    whole = [ids for _, ids in make_loader(open_mixture())]
    for first_batch in (1, 17, 18, 34, 35):
        resumed = [ids for _, ids in make_loader(open_mixture(), num_workers, first_batch=first_batch)]
        assert resumed == whole[first_batch:]


def test_processes_resume_where_they_stopped(spec):
    mixture = Mixture(spec, batch_size=4, num_readers=2)
    whole = [[*make_sampler(mixture, 2, process)] for process in range(2)]
    resumed = [[*make_sampler(mixture, 2, process, first_batch=2 * 5)] for process in range(2)]
    assert resumed == [batches[5:] for batches in whole]
    # With another number of processes the batches go on from the same place.
    resumed = [[*make_sampler(mixture, 2, process, first_batch=3)] for process in range(2)]
    assert resumed == [whole[1][1:], whole[0][2:]]


@pytest.mark.parametrize("first_batch", [-1, 31])
def test_a_batch_that_is_not_there_is_named(spec, first_batch):
    with pytest.raises(InputError, match=f"first_batch is {first_batch}: the mixture has 30 of 4 each"):
        Mixture(spec, batch_size=4).make_batch_sampler(first_batch)


@pytest.mark.parametrize("strategy", ["all", "random:60%", "end:300"])
@pytest.mark.parametrize(("num_processes", "num_workers"), [(1, 1), (2, 1), (2, 2)])
def test_a_reader_reads_its_own_row_groups_once(tmp_path, monkeypatch, num_processes, num_workers, strategy):
    path = write_parquet(tmp_path / "rows.parquet", 320, 5)
    reads = []
    read_group = ParquetRows.read_group
    monkeypatch.setattr(
        ParquetRows, "read_group", lambda rows, file, group: reads.append(group) or read_group(rows, file, group)
    )
    num_readers = num_processes * num_workers
    read_by = []
    for process in range(num_processes):
        for worker in range(num_workers):
            spec = make_spec({"json_path": str(path), "sampling_strategy": strategy})
            mixture = Mixture(spec, batch_size=4, num_readers=num_readers)
            sampler = make_sampler(mixture, num_processes, process)
            reads.clear()
            # What the DataLoader hands to this worker: every num_workers-th batch of its process.
            for batch in list(sampler)[worker::num_workers]:
                read_ids(mixture, batch)
            assert len(reads) == len(set(reads))
            read_by.append(set(reads))
    num_needed = len(set.union(*read_by))
    assert num_needed == 60 if strategy == "end:300" else num_needed > 60
    assert sum(map(len, read_by)) <= num_needed + num_readers - 1


def write_batches(mixture, path, num_workers, first_batch):
    """Write the ids of each batch as a line, as a run would train on them."""
    with open(path, "a", buffering=1) as file:
        for _, ids in make_loader(mixture, num_workers, first_batch=first_batch):
            file.write(" ".join(ids) + "\n")


def read_lines(path):
    """Return the whole lines of a file that may be written just now."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, spec, num_workers):
    def open_mixture():
        return Mixture(spec, num_epochs=20, batch_size=7, num_readers=max(num_workers, 1))

    write_batches(open_mixture(), tmp_path / "whole.txt", 0, 0)
    whole = read_lines(tmp_path / "whole.txt")
    cut = tmp_path / "cut.txt"
    process = multiprocessing.get_context("fork").Process(
        target=write_batches, args=(open_mixture(), cut, num_workers, 0)
    )
    process.start()
    first_kill = random.Random().randint(1, len(whole) // 2)
    while len(read_lines(cut)) < first_kill and process.is_alive():
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    lines = read_lines(cut)
    assert first_kill <= len(lines) < len(whole)
    cut.write_text("".join(f"{line}\n" for line in lines))
    write_batches(open_mixture(), cut, num_workers, len(lines))
    assert read_lines(cut) == whole
    assert Counter(id for line in whole for id in line.split()) == {id: 20 * count for id, count in WANTED.items()}


STREAM = """
import sys, time
from llava_st_hf.data.mixture import Mixture
from llava_st_hf.data.mixture_spec import MixtureSpec
path, first_batch, num_workers, num_batches, out = sys.argv[1:]

def read_memory():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

def collate(records):
    return [record.id for record in records]

import datasets, pyarrow.parquet, yaml
from torch.utils.data import DataLoader
from llava_st_hf.data.readers import registry
before, start = read_memory(), time.perf_counter()
mixture = Mixture(path, batch_size=100, num_readers=max(int(num_workers), 1))
sampler = mixture.make_batch_sampler(int(first_batch))
peak, first_seconds, num_read = 0, None, 0
with open(out, "a", buffering=1) as file:
    for batch in DataLoader(mixture, batch_sampler=sampler, num_workers=int(num_workers), collate_fn=collate):
        first_seconds = first_seconds or time.perf_counter() - start
        file.write(" ".join(batch) + "\\n")
        num_read += 1
        if num_read % 50 == 1:
            peak = max(peak, read_memory())
        if num_read == int(num_batches):
            break
print((peak - before) // 1024, first_seconds, time.perf_counter() - start)
"""


def start_stream(tmp_path, mixture, out, first_batch=0, num_workers=0, num_batches=-1):
    script = tmp_path / "stream.py"
    script.write_text(STREAM)
    arguments = map(str, (script, mixture, first_batch, num_workers, num_batches, out))
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf_home"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_a_million_records_stream_in_bounded_memory(tmp_path, record_testsuite_property):
    write_lines(tmp_path / "big.jsonl", 1_000_000, text="x" * 880)
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text("datasets: [{json_path: big.jsonl}]")
    assert (tmp_path / "big.jsonl").stat().st_size > 0.98e9
    for run in ("first", "second"):  # without an index, and with it
        process = start_stream(tmp_path, mixture, tmp_path / f"{run}.txt", num_batches=2_000)
        growth, first_seconds, seconds = map(float, process.communicate()[0].split())
        record_testsuite_property(
            f"{run}_run", f"first batch {first_seconds:.1f} s, 200,000 records {seconds:.1f} s, {growth} MB"
        )
        assert growth < 300
    # All of it, by four workers.
    process = start_stream(tmp_path, mixture, tmp_path / "all.txt", num_workers=4)
    growth = float(process.communicate()[0].split()[0])
    assert growth < 300
    assert Counter(id for line in read_lines(tmp_path / "all.txt") for id in line.split()) == {
        f"big{number}": 1 for number in range(1_000_000)
    }


def test_frames_of_clips_reach_the_readers_that_ask_for_them(tmp_path, clip):
    record = {"video": str(clip), "query": "the circle", "span_seconds": [1.0, 3.0]}
    record["boxes"] = {"1.0": [0, 0, 50, 50], "3.0": [20, 0, 70, 50]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(record) + "\n")
    lines = write_lines(tmp_path / "lines.jsonl", 1)
    entries = [{"json_path": str(tmp_path / "mine.jsonl"), "data_folder": str(clip.parent)}, {"json_path": str(lines)}]
    num_boxes = {}
    for num_frames in (5, 9):
        mixture = Mixture(make_spec(*entries, num_frames=num_frames))
        texts = [mixture[index].messages[1]["content"] for index in range(2)]
        num_boxes[num_frames] = max(text.count("[") for text in texts)
    assert num_boxes == {5: 3, 9: 5}
    with pytest.raises(InputError, match="num_frames is 0"):
        make_spec(*entries, num_frames=0)


def test_the_report_of_a_mixture_has_its_rules(spec, tmp_path):
    entry = {"json_path": str(write_lines(tmp_path / "needed.jsonl", 3)), "required": True}
    mixture = Mixture(make_spec(entry, max_skip_share=0.25))
    report = mixture.make_skip_report(tmp_path / "skipped.jsonl")
    assert (report.max_skip_share, report.required_sources) == (0.25, {"needed"})
    assert report.path == tmp_path / "skipped.jsonl"
    with pytest.raises(TooManySkipsError, match="required source 'needed'"):
        report.add(SkippedRecord("1", "needed", "missing_media", "gone"))


def test_what_looks_like_a_data_set_of_the_hub_and_is_a_folder_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "published").mkdir()
    with pytest.raises(InputError, match="id is 'published', which is a folder here: name it as json_path"):
        Mixture(make_spec({"id": "published"}))
