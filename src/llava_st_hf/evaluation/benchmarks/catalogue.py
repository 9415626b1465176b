"""The benchmarks that are known by name: what each needs, where it is to be had, how it is read and scored."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ...processing import InputError
from ...utils.tables import format_table

_SECONDS = 3600


class KnownBenchmark(NamedTuple):
    """A benchmark that is read from files which somebody has."""

    name: str  # name on the command line
    format: str | None  # format of its annotations; told from the file where it has several
    files: tuple[str, ...]  # names that its file of annotations may have, anywhere in the folder of the data
    items: int | None  # items of the published file; `None` where nobody says
    licence: str  # of the annotations; the media have their own
    homepage: str  # where both are to be had
    task: str | None = None  # what they are read as; the format's own task by default
    part: str = ""  # what names of its items have in them, of a part of a file
    media: str = "its clips"  # what else the folder has to hold
    takes_folder: bool = False  # whether all files beside that one belong to it

    def find_file(self, data: str | Path | None) -> Path:
        """
        Find the annotations in the folder of the data, or below it.

        Raises:
            `InputError`: For no folder, or one without such a file.
        """
        names = " or ".join(self.files)
        if data is None:
            raise InputError(
                f"data is missing: {self.name} needs a folder with {names} and {self.media}, see {self.homepage}",
                field="data",
            )
        if not os.path.isdir(data):
            raise InputError(
                f"data is {str(data)!r}, which is no folder: {self.name} needs one with {names}.", field="data"
            )
        for folder, _, files in sorted(os.walk(data)):
            for name in self.files:
                if name in files:
                    return Path(folder) / name
        raise InputError(f"data is {str(data)!r}: it has no {names}, see {self.homepage}", field="data")


def _list_refcoco() -> list[KnownBenchmark]:
    counts = {
        "refcoco": {"val": 10834, "testA": 5657, "testB": 5095},
        "refcoco+": {"val": 10758, "testA": 5726, "testB": 4889},
        "refcocog": {"val": 4896, "test": 9602},
    }
    found = []
    for data, splits in counts.items():
        for split, items in splits.items():
            origin = "umd" if data == "refcocog" else "unc"
            files = (f"{data}_{split}.json", f"finetune_{data}_{split}.json", f"REC_{data}_{origin}_{split}.jsonl")
            home = "https://github.com/lichengunc/refer"
            media = "the images of COCO train2014"
            found.append(KnownBenchmark(f"{data}-{split}", None, files, items, "Apache-2.0", home, "rec", media=media))
    return found


_ST_ALIGN = "https://huggingface.co/datasets/appletea2333/ST-Align-Benchmark"
_VIDSTG = "https://github.com/Guaranteer/VidSTG-Dataset"
_HC_STVG = "https://github.com/tzhhhh123/HC-STVG"
_V_STAR = "https://huggingface.co/datasets/V-STaR-Bench/V-STaR"
_VCG = "https://github.com/mbzuai-oryx/Video-ChatGPT"
_VIDOR = "the clips and the annotations of VidOR"
_ASK = "see there"
_KNOWN = (
    *(
        KnownBenchmark(f"st-align-{task}", "st_align_benchmark", (f"{task}.json",), 2000, _ASK, _ST_ALIGN, task)
        for task in ("stvg", "svg", "elc")
    ),
    *(
        KnownBenchmark(
            f"vidstg-{name}", "vidstg", ("test_annotations.json",), items, _ASK, _VIDSTG, "stvg", part, _VIDOR
        )
        for name, part, items in (("declarative", " captions ", 4610), ("interrogative", " questions ", 5693))
    ),
    KnownBenchmark("hc-stvg-v1", "hc_stvg", ("test.json", "test_v1.json"), 1160, _ASK, _HC_STVG, "stvg"),
    KnownBenchmark("hc-stvg-v2", "hc_stvg", ("val_v2.json",), 2000, _ASK, _HC_STVG, "stvg"),
    KnownBenchmark(
        "vue-stg", "vue_stg", ("query.csv",), 1600, "CC BY-NC 4.0", "https://github.com/bytedance/vidi", "stvg_several"
    ),
    KnownBenchmark(
        "charades-sta",
        "charades_sta",
        ("charades_sta_test.txt",),
        3720,
        _ASK,
        "https://github.com/jiyanggao/TALL",
        "tvg",
        media="the clips of Charades",
    ),
    KnownBenchmark(
        "activitynet-captions",
        "activitynet_captions",
        ("val_1.json",),
        4917,
        _ASK,
        "https://cs.stanford.edu/people/ranjaykrishna/densevid/",
        "dvc",
        media="the clips of ActivityNet",
    ),
    KnownBenchmark(
        "qvhighlights",
        "qvhighlights",
        ("highlight_val_release.jsonl",),
        1550,
        "CC BY-NC-SA 4.0",
        "https://github.com/jayleicn/moment_detr",
        "tvg_several",
    ),
    KnownBenchmark("v-star", "v_star", ("V_STaR_test.json",), 3 * 2094, _ASK, _V_STAR),
    KnownBenchmark(
        "mvbench",
        "mvbench",
        ("action_sequence.json",),
        4000,
        "MIT",
        "https://huggingface.co/datasets/OpenGVLab/MVBench",
        takes_folder=True,
    ),
    *(
        KnownBenchmark(f"vcg-{name}", "vcg", (f"{name}_qa.json",), None, _ASK, _VCG, media="the clips of ActivityNet")
        for name in ("generic", "temporal", "consistency")
    ),
    *_list_refcoco(),
)
KNOWN_BENCHMARKS: Mapping[str, KnownBenchmark] = MappingProxyType({known.name: known for known in _KNOWN})


def check_name(name: str) -> None:
    """Raise `InputError` for what is neither a known benchmark nor a file of annotations."""
    if name not in KNOWN_BENCHMARKS and not os.path.exists(name):
        near = difflib.get_close_matches(name.lower().replace("_", "-"), ["st-shapes", *KNOWN_BENCHMARKS], n=1)
        hint = f" The nearest is {near[0]}." if near else ""
        raise InputError(
            f"BENCHMARK is {name!r}: give the path of a file of annotations, or a name that `llava-st evaluate "
            f"--list` shows, such as st-shapes.{hint}"
        )


def list_benchmarks() -> str:
    """Return a table of all benchmarks: items, time, what each needs, licence, where it is to be had."""
    rows: list[tuple[str, ...]] = [
        ("st-shapes", "3,500", "1.0 h", "nothing: its clips are drawn, 500 a task", "Apache-2.0", "in this package")
    ]
    for known in KNOWN_BENCHMARKS.values():
        needs = f"{' or '.join(known.files)}; {known.media}"
        counts = ("", "") if known.items is None else (f"{known.items:,}", f"{known.items / _SECONDS:.1f} h")
        rows.append((known.name, *counts, needs, known.licence, known.homepage))
    table = format_table(
        ("benchmark", "items", "at 1 s each", "needs in --data", "licence", "where it is to be had"), rows
    )
    return (
        f"{table}\n\nOr the path of a file of annotations in any format that is read; --data is then the folder of "
        "its media, by default that of the file. Items of v-star and mvbench are as their authors say."
    )
