"""Cards of data sets on the Hub, and the file by which it takes one for a benchmark."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import DatasetCardData

from ..processing import InputError, get_task
from ..utils.cards import render_card
from ..utils.markdown import escape_markdown
from ..utils.tables import format_table

UNKNOWN_LICENSE = "unknown"
DATASET_TAG = "llava-st"
BENCHMARK_FILE = "eval.yaml"
_DATASET_TAGS = [DATASET_TAG, "temporal-grounding", "spatial-grounding"]
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
_CATEGORIES = {"video": "video-text-to-text", "image": "image-text-to-text", "text": "text-generation"}
# Upper limits of the classes of size that the Hub knows.
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))


@dataclass(frozen=True)
class SourceFacts:
    """
    What a card says of one source of a data set.

    Args:
        name (`str`): Name of the source.
        license (`str`, *optional*, defaults to `"unknown"`): SPDX identifier, for example `"CC-BY-4.0"`.
        origin (`str`, *optional*): Where it comes from, an address or a few words.

    Example:

    ```python
    >>> SourceFacts("kitchen", license="CC-BY-4.0").license
    'CC-BY-4.0'
    ```
    """

    name: str
    license: str = UNKNOWN_LICENSE
    origin: str | None = None

    def __post_init__(self):
        if not _LICENSE.fullmatch(self.license):
            raise InputError(
                f"the license of {self.name!r} is {self.license[:80]!r}: give an SPDX identifier such as CC-BY-4.0."
            )


def render_dataset_card(
    title: str,
    sources: Mapping[str, SourceFacts],
    counts: Mapping[tuple[str, str], int],
    skips: Mapping[tuple[str, str], int],
    media_types: Mapping[str, int],
    repository: str | None = None,
    features: Any = None,
) -> str:
    """
    Render the card of a published data set.

    Args:
        title (`str`): Name of the data set.
        sources (`Mapping[str, SourceFacts]`): Facts of each source.
        counts (`Mapping[tuple[str, str], int]`): Records by source and task.
        skips (`Mapping[tuple[str, str], int]`): Records left out, by source and reason.
        media_types (`Mapping[str, int]`): Records by type of medium.
        repository (`str`, *optional*): Where it goes on the Hub, for the examples; a place to fill in without one.
        features (`datasets.Features`, *optional*): Of the columns; those in the files by default.

    Returns:
        `str`: Markdown with the metadata of the Hub in front.
    """
    num_records = sum(counts.values())
    names = sorted({source for source, _ in counts})
    facts = [sources.get(name, SourceFacts(name)) for name in names]
    licenses = sorted({fact.license.lower() for fact in facts})
    data = DatasetCardData(
        pretty_name=title,
        license=licenses[0] if len(licenses) == 1 else licenses,
        task_categories=[category for name, category in _CATEGORIES.items() if media_types.get(name)],
        size_categories=[_name_size(num_records)],
        tags=_DATASET_TAGS,
        configs=[
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]},
        ],
    )
    if features is not None:
        from datasets.info import DatasetInfo, DatasetInfosDict

        DatasetInfosDict({"default": DatasetInfo(features=features)}).to_dataset_card_data(data)
    return render_card(
        "dataset_card",
        data,
        title=escape_markdown(title),
        repository=repository or "ORGANIZATION/NAME",
        num_records=num_records,
        media_types=sorted(media_types.items()),
        count_rows=[(escape_markdown(source), task, count) for (source, task), count in sorted(counts.items())],
        source_rows=[
            (
                escape_markdown(fact.name),
                fact.license,
                escape_markdown(fact.origin or "not stated"),
                sum(count for (source, _), count in counts.items() if source == fact.name),
            )
            for fact in facts
        ],
        skip_rows=[(escape_markdown(source), reason, count) for (source, reason), count in sorted(skips.items())],
        num_skipped=sum(skips.values()),
        has_typed_media=features is not None,
        has_unknown_license=any(fact.license.lower() == UNKNOWN_LICENSE for fact in facts),
    )


def render_prepared_card(repository: str, sources: Sequence[tuple[int, SourceFacts, Sequence[str], int]]) -> str:
    """
    Render the card of a data set that holds sources of ST-Align, each in a folder of its stage.

    Of each source there are the stage, the facts, the tasks and how many records it has.
    """
    folders = [f"stage{stage}/{facts.name}" for stage, facts, _, _ in sources]
    data = DatasetCardData(
        pretty_name="ST-Align",
        license=sorted({facts.license.lower() for _, facts, _, _ in sources}),
        size_categories=[_name_size(sum(count for *_, count in sources))],
        tags=_DATASET_TAGS,
        configs=[
            {
                "config_name": folder.replace("/", "-"),
                "data_files": [{"split": "train", "path": f"{folder}/data/train-*.parquet"}],
            }
            for folder in folders
        ],
    )
    rows = [
        (stage, escape_markdown(facts.name), ", ".join(tasks), count, facts.license, facts.origin or "not stated")
        for stage, facts, tasks, count in sources
    ]
    header = ("stage", "source", "tasks", "records", "licence", "origin")
    table = format_table(header, rows, markdown=True)
    example = {"example": folders[0].replace("/", "-"), "stage": sources[0][0]}
    return render_card("prepared_card", data, repository=repository, table=table, **example)


def _name_size(num_records: int) -> str:
    return next((name for limit, name in _SIZES if num_records < limit), "n>10M")


def write_benchmark_yaml(title: str, tasks: Iterable[str]) -> str:
    """
    Return `eval.yaml`, by which the Hub takes a data set for a benchmark, whose tasks are named by task and metric.

    These are the names that `.eval_results/` of models has. Where no task has a metric, it is an `InputError`.
    """
    import yaml

    names = [f"{task}_{metric}" for task in sorted(set(tasks)) for metric in get_task(task).headline]
    if not names:
        raise InputError(f"none of the tasks {', '.join(sorted(set(tasks)))} has a metric: it is no benchmark.")
    content = {
        "name": title,
        "description": "When and where something happens in a video or an image. Every item counts.",
        "evaluation_framework": "llava-st-hf",
        "tasks": [{"id": name, "config": "default", "split": "train"} for name in names],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
