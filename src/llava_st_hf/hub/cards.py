"""Cards of models, adapters and results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from huggingface_hub import DatasetCardData, ModelCard, ModelCardData

from ..utils.cards import render_card
from ..utils.markdown import escape_markdown, write_code
from ..utils.tables import format_table

if TYPE_CHECKING:
    from .results import EvaluationRun
    from .training_facts import TrainingFacts

MODEL_TAG, RESULTS_TAG = "llava_st", "llava-st-results"
# In the cards of folders that do not know yet where they go.
PLACEHOLDERS = ("path/to/this/folder", "ORGANIZATION/NAME")
_PIPELINE_TAG = "video-text-to-text"
_MODEL_TAGS = [MODEL_TAG, "video-grounding"]
_NOT_MEASURED = "Nothing was measured."  # as the template has it


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
    return render_card(f"{template}_model_card", data, source=write_code(source), **values)


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
    template = "adapter_card" if facts.is_adapter else "model_card"
    return render_card(
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
    return render_card(
        "results_card",
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
