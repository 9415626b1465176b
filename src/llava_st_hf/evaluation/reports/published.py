"""What others report on the same benchmarks, in percent, each with its source and what to take care of."""

from collections.abc import Mapping
from typing import NamedTuple

from ..metrics.meteor import METEOR

_PAPER = "arXiv:2501.08282"
_SAME = "tables of the papers on VidSTG and HC-STVG"
_NAMES = "One name can mean two metrics: compare a column only with one of the same definition."
_PARTIAL = "What is published is of all items, this run of those whose media are there."
_FRAMES = (
    "The papers score every frame of a clip, with the answer's boxes interpolated (--protocol community); TubeDETR "
    "scores the frames that it samples."
)
_LEFT_OUT = "CG-STVG leaves out the clips 10__Gvp-cj3bmIY.mp4 and 1_aMYcLyh9OhU.mkv, ours counts them."
_MIXED = (
    "sIoU is a mean over the frames that both tubes have, vIoU over those that either has, so vIoU is never larger. "
    "The table of STVG-R1 prints the sIoU of LLaVA-ST in columns that are named vIoU."
)
_SAMPLED = (
    "The published LLaVA-ST samples its answers (temperature 0.01), replaces an item that fails by the next one, and "
    "uses the first 2,000 items: --protocol reference scores as it does."
)
_NO_SYNONYMS = (
    "The published METEOR knows synonyms and paraphrases; that of this run, METEOR_no_synonyms, has no tables of them "
    "and is a little lower for captions in other words: pip install llava-st-hf[captions] brings them."
)


class PublishedRow(NamedTuple):
    """What one system is reported to reach."""

    system: str
    metrics: Mapping[str, float]  # in percent, by the names of our default, community and VUE-STG protocols
    source: str  # who reports it


class Published(NamedTuple):
    """What is published on one benchmark and task."""

    rows: tuple[PublishedRow, ...]  # by system
    warnings: tuple[str, ...]  # what to take care of when they are compared


def _read(source: str, names: str, *rows: str) -> tuple[PublishedRow, ...]:
    """Read rows such as `"STCAT 43.7 32.4 - 23.5"`, with a dash for what is not reported."""
    systems = []
    for row in rows:
        system, *numbers = row.split()
        values = zip(names.split(), numbers, strict=True)
        metrics = {name: float(value) for name, value in values if value != "-"}
        systems.append(PublishedRow(system, metrics, source))
    return tuple(systems)


_VIDEO = "m_tIoU m_vIoU vIoU@0.3 vIoU@0.5"
_VUE = "t_Precision t_Recall t_IoU v_Precision v_Recall v_IoU v_IoU_Int"
_TEMPORAL = "R@0.3 R@0.5 R@0.7 m_tIoU"
# By the benchmark, as words in any order in its name, and the task.
_PUBLISHED: Mapping[tuple[str, str], Published] = {
    ("hc stvg v1", "stvg"): Published(
        _read(
            _SAME,
            _VIDEO,
            "TubeDETR 43.7 32.4 49.8 23.5",
            "STCAT 49.4 35.1 57.7 30.1",
            "CG-STVG 52.8 38.4 61.5 36.3",
            "TA-STVG 53.0 39.1 63.1 36.8",
            "SpaceVLLM-7B 56.9 39.3 66.6 36.9",
            "STVG-R1 56.9 39.1 66.7 38.6",
        ),
        (_FRAMES, _LEFT_OUT),
    ),
    ("hc stvg v2", "stvg"): Published(
        _read(
            _SAME,
            _VIDEO,
            "TubeDETR 53.9 36.4 58.8 30.6",
            "CG-STVG 60.0 39.5 64.5 36.3",
            "TA-STVG 60.4 40.2 65.8 36.7",
            "SpaceVLLM-7B 58.0 34.0 56.9 24.7",
            "STVG-R1 62.0 40.2 67.8 38.8",
        ),
        (_FRAMES, _LEFT_OUT, "Reported on the validation split."),
    ),
    ("vidstg declarative", "stvg"): Published(
        _read(
            _SAME,
            _VIDEO,
            "TubeDETR 48.1 30.4 42.5 28.2",
            "STCAT 50.8 33.1 46.2 32.6",
            "CG-STVG 51.4 34.0 47.7 33.1",
            "TA-STVG 51.7 34.4 48.2 33.5",
        ),
        (_FRAMES,),
    ),
    ("vidstg interrogative", "stvg"): Published(
        _read(
            _SAME,
            _VIDEO,
            "TubeDETR 46.9 25.7 35.7 23.2",
            "STCAT 49.7 28.2 39.2 26.6",
            "CG-STVG 49.9 29.0 40.5 -",
        ),
        (_FRAMES,),
    ),
    ("st align stvg", "stvg"): Published(
        (
            *_read(_PAPER, "tIoU@0.5 m_tIoU sIoU@0.5 m_sIoU", "LLaVA-ST 44.6 43.8 21.1 22.8"),
            *_read("table of the STVG-R1 paper", "m_tIoU m_vIoU", "STVG-R1 45.1 23.4", "Qwen2.5-VL-7B 37.4 14.3"),
        ),
        (_MIXED, _SAMPLED),
    ),
    ("st align svg", "svg"): Published(
        _read(_PAPER, "sIoU@0.3 sIoU@0.5 m_sIoU", "LLaVA-ST 47.2 30.9 32.5"), (_SAMPLED,)
    ),
    ("st align elc", "elc"): Published(
        _read(_PAPER, "tIoU@0.5 m_tIoU sIoU@0.5 m_sIoU METEOR", "LLaVA-ST 60.4 60.0 32.4 33.5 24.7"),
        (
            _SAMPLED,
            'The published span parser finds no "Ends in" form.',
            *(() if METEOR == "METEOR" else (_NO_SYNONYMS,)),
        ),
    ),
    ("charades sta", "tvg"): Published(
        _read(_PAPER, _TEMPORAL, "LLaVA-ST 63.1 44.8 23.4 42.4"),
        ("The published LLaVA-ST counts tIoU above a threshold, our R@t from it on.", _SAMPLED),
    ),
    ("vue stg", "stvg_several"): Published(
        _read(
            "table of VUE-STG, reproduced from its public files",
            _VUE,
            "Vidi2 73.0 59.8 53.2 44.6 36.3 32.6 60.3",
            "Gemini-3-Pro-Preview 51.9 35.3 27.5 9.0 5.7 4.6 16.6",
            "GPT-5 38.3 19.5 16.4 13.0 6.5 5.5 33.6",
            "Qwen3-VL-32B-Instruct 45.3 39.2 25.9 8.6 7.5 5.1 18.5",
        ),
        (
            "t_Precision, v_Precision and v_IoU_Int are means over the items where they are defined: a system that "
            "answers less rises in them. 54.6 % of the queries of GPT-5 are in no v_IoU_Int.",
        ),
    ),
    **{
        (f"{name} {split}", "rec"): Published(
            _read(_PAPER, "acc@0.5", f"LLaVA-ST {value}"),
            ("The published LLaVA-ST leaves answers without a box out of the mean; ours counts them as 0.",),
        )
        for name, split, value in (
            ("refcoco", "val", "90.1"),
            ("refcoco", "testa", "93.2"),
            ("refcoco", "testb", "85.0"),
            ("refcoco+", "val", "86.0"),
            ("refcoco+", "testa", "91.3"),
            ("refcoco+", "testb", "78.8"),
            ("refcocog", "val", "86.7"),
            ("refcocog", "test", "87.4"),
        )
    },
}
# What the protocol of the published code calls them; its shares are in percent already.
_REFERENCE_NAMES: Mapping[str, tuple[str, ...]] = {
    "METEOR": ("METEOR_no_synonyms",),
    "m_tIoU": ("mtiou", "miou"),
    "m_sIoU": ("msiou",),
    "m_vIoU": ("mstiou",),
    "acc@0.5": ("R1@(0.5)",),
    **{f"R@{t}": (f"R1@({t})",) for t in (0.3, 0.5, 0.7)},
    **{f"{name}@{t}": (f"{name.lower()}@{t}",) for name in ("tIoU", "sIoU", "vIoU") for t in (0.3, 0.5, 0.7)},
}


def find_published(benchmark: str, task: str) -> Published | None:
    """
    Return what is published on a benchmark.

    Args:
        benchmark (`str`): Its name, such as `"hc-stvg-v1"`.
        task (`str`): The task.

    Returns:
        `Published` or `None`: Rows and warnings; `None` where nothing is known.

    Example:

    ```python
    >>> find_published("vidstg-declarative", "stvg").rows[0].metrics["m_vIoU"]
    30.4
    ```
    """
    name, _, part = benchmark.partition(" (")  # as in "vue-stg (partial: 49 of 1,600 items)"
    words = sorted(name.lower().replace("_", "-").split("-"))
    for (known, known_task), published in _PUBLISHED.items():
        if sorted(known.split()) == words and known_task in (task, task.removesuffix("_several")):
            warnings = (*published.warnings, _NAMES, *((_PARTIAL,) if part else ()))
            return published._replace(warnings=warnings)
    return None


def find_percent(metrics: Mapping[str, float], name: str) -> float | None:
    """Return one of the metrics of a run by the name that it has here, in percent; `None` where the run has none."""
    if name in metrics:
        return metrics[name] * 100
    known = next((each for each in _REFERENCE_NAMES.get(name, ()) if each in metrics), None)
    return None if known is None else metrics[known] * (1 if "@" in known else 100)
