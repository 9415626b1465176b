"""Cards of repositories on the Hub, rendered from the templates beside this file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

from ..processing import InputError
from ..utils.markdown import escape_markdown, write_code
from ..utils.tables import format_table

if TYPE_CHECKING:
    from .results import EvaluationRun
    from .training_facts import TrainingFacts

_TEMPLATES = Path(__file__).with_name("card_templates")
UNKNOWN_LICENSE = "unknown"
MODEL_TAG, DATASET_TAG, RESULTS_TAG = "llava_st", "llava-st", "llava-st-results"
# In the cards of folders that do not know yet where they go.
PLACEHOLDERS = ("path/to/this/folder", "ORGANIZATION/NAME")
_PIPELINE_TAG = "video-text-to-text"
_DATASET_TAGS = [DATASET_TAG, "temporal-grounding", "spatial-grounding"]
_MODEL_TAGS = [MODEL_TAG, "video-grounding"]
_NOT_MEASURED = "Nothing was measured."  # as the template has it
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
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


def render_model_card(template: str, source: str, **values: Any) -> str:
    """
    Render the card of a checkpoint that was made from another.

    Args:
        template (`str`): `"converted"` or `"untrained"`.
        source (`str`): Name of the other one.
        values (`dict[str, Any]`): What else the template asks for.

    Returns:
        `str`: Markdown with the metadata of the Hub in front.
    """
    data = ModelCardData(library_name="transformers", pipeline_tag=_PIPELINE_TAG, tags=_MODEL_TAGS)
    return _render(f"{template}_model_card.md.jinja", data, source=write_code(source), **values)


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
        task_categories=_list_categories(media_types),
        size_categories=[_name_size(num_records)],
        tags=_DATASET_TAGS,
        configs=[
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]},
        ],
    )
    if features is not None:
        from datasets.info import DatasetInfo, DatasetInfosDict

        DatasetInfosDict({"default": DatasetInfo(features=features)}).to_dataset_card_data(data)
    card = DatasetCard.from_template(
        data,
        template_path=str(_TEMPLATES / "dataset_card.md.jinja"),
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
    return str(card).rstrip() + "\n"


def render_prepared_card(repository: str, sources: Sequence[tuple[int, SourceFacts, Sequence[str], int]]) -> str:
    """
    Render the card of a data set that holds sources of ST-Align, each in a folder of its stage.

    Args:
        repository (`str`): Where it goes on the Hub.
        sources (`Sequence[tuple[int, SourceFacts, Sequence[str], int]]`):
            Of each the stage, the facts, the tasks and how many records there are.

    Returns:
        `str`: Markdown with the metadata of the Hub in front.
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
    return _render("prepared_card.md.jinja", data, repository=repository, table=table, **example)


def _name_size(num_records: int) -> str:
    return next((name for limit, name in _SIZES if num_records < limit), "n>10M")


@dataclass(frozen=True)
class ModelFacts:
    """What a card says of a model or an adapter beside its training and its metrics."""

    repository: str  # where it goes on the Hub
    is_adapter: bool  # whether it needs its base
    base_model: str | None  # its base on the Hub
    num_parameters: int  # numbers in its files
    num_frames: int  # frames that are sampled of a clip
    image_size: int  # side of a frame in pixels
    num_temporal_tokens: int  # moments of a clip that have a name
    num_spatial_tokens: int  # likewise for places, along each side
    license: str | None = None  # SPDX identifier
    title: str | None = None  # its name, where the repository is not known yet
    merged: tuple[str, str] | None = None  # names of the adapter and the base that it was merged from


def render_trained_card(
    facts: ModelFacts, training: "TrainingFacts | None", evaluations: "Sequence[EvaluationRun]" = ()
) -> str:
    """Render the card of a model or an adapter, with how it was made and what it reaches as far as that is known."""
    sources = training.sources if training is not None else []
    data = ModelCardData(
        library_name="peft" if facts.is_adapter else "transformers",
        pipeline_tag=_PIPELINE_TAG,
        license=None if facts.license is None else facts.license.lower(),
        base_model=facts.base_model,
        datasets=sorted({source.id for source in sources if source.id}) or None,
        tags=_MODEL_TAGS,
        **_describe_results(facts.repository, evaluations),
    )
    if facts.base_model is not None:
        data.base_model_relation = "adapter" if facts.is_adapter else "finetune"
    template = "adapter_card.md.jinja" if facts.is_adapter else "model_card.md.jinja"
    return _render(
        template,
        data,
        facts=facts,
        title=escape_markdown(facts.title or facts.repository.split("/")[-1]),
        merged=None if facts.merged is None else tuple(map(write_code, facts.merged)),
        training=training,
        sources=[
            (
                escape_markdown(source.name),
                source.license,
                escape_markdown(source.origin or source.id or "not stated"),
                source,
            )
            for source in sources
        ],
        base=write_code(facts.base_model or (training.base if training is not None else "a base that is not named")),
        evaluations=[(run, _write_metrics(run)) for run in evaluations],
    )


def render_results_card(run: "EvaluationRun", repository: str, model_id: str | None = None) -> str:
    """
    Render the card of a data set with the answers and metrics of an evaluation, of a model that may be on the Hub.
    """
    model = model_id or str(run.settings["model"])
    data = DatasetCardData(
        pretty_name=f"{model} on {run.benchmark}",
        tags=[RESULTS_TAG, "video-grounding"],
        configs=[{"config_name": "default", "data_files": [{"split": "test", "path": "predictions.jsonl"}]}],
    )
    shown = {name: value for name, value in run.settings.items() if name not in ("benchmark", "model")}
    return _render(
        "results_card.md.jinja",
        data,
        run=run,
        repository=repository,
        model=escape_markdown(model),
        model_id=model_id,
        table=_write_metrics(run),
        settings=[(name, escape_markdown(str(value))) for name, value in shown.items()],
    )


def add_results(card: str, repository: str, evaluations: "Sequence[EvaluationRun]") -> str:
    """Return a card that is written already with its place on the Hub filled in, and metrics where it has none."""
    for placeholder in PLACEHOLDERS:
        card = card.replace(placeholder, repository)
    parsed = ModelCard(card)
    for name, value in _describe_results(repository, evaluations).items():
        setattr(parsed.data, name, value)
    sections = [f"`{run.benchmark}`, {run.date}:\n\n{_write_metrics(run)}" for run in evaluations]
    if sections and _NOT_MEASURED in parsed.text:
        parsed.text = parsed.text.replace(_NOT_MEASURED, "\n\n".join(sections))
    elif sections and "## Metrics" not in parsed.text:
        parsed.text = "\n\n".join([parsed.text.rstrip(), "## Metrics", *sections])
    return str(parsed).rstrip() + "\n"


def _describe_results(repository: str, evaluations: "Sequence[EvaluationRun]") -> dict[str, Any]:
    """Return the fields of a card that make its `model-index`."""
    results = [result for run in evaluations for result in run.make_eval_results()]
    return {"model_name": repository.split("/")[-1], "eval_results": results} if results else {}


def _write_metrics(run: "EvaluationRun") -> str:
    rows = [
        (task, name, f"{value:.3f}", None if baseline is None else f"{baseline:.3f}", items)
        for task, name, value, baseline, items in run.list_rows()
    ]
    return format_table(("task", "metric", "model", "blind baseline", "items"), rows, markdown=True)


def _render(template: str, data: Any, **values: Any) -> str:
    """Render a template that may include others, in which nothing may be left open."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(_TEMPLATES)
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    templates = Environment(loader=loader, undefined=StrictUndefined, **options)
    return templates.get_template(template).render(card_data=data.to_yaml(), **values).rstrip() + "\n"


def _list_categories(media_types: Mapping[str, int]) -> list[str]:
    categories = {"video": "video-text-to-text", "image": "image-text-to-text", "text": "text-generation"}
    return [category for name, category in categories.items() if media_types.get(name)]
