"""The card of what a run made: what it is, how it was trained, and what it reached on what was held out."""

from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerState

from ..checkpoints.reading import name_source
from ..data.mixture import Mixture
from ..hub.cards import render_model_card
from ..processing.processing_llava_st import LlavaSTProcessor
from ..utils.tables import format_table
from .facts import find_held_out
from .recipe import Recipe


def render_training_card(
    recipe: Recipe, state: TrainerState, train_records: Sequence, processor: LlavaSTProcessor, num_skipped: int
) -> str:
    """
    Render the card of a run that is done.

    Args:
        recipe (`Recipe`): The run.
        state (`TrainerState`): Its steps and logs.
        train_records (`Sequence`): What it was trained on.
        processor (`LlavaSTProcessor`): Says how many frames it samples, where the recipe does not.
        num_skipped (`int`): Records that could not be used.

    Returns:
        `str`: Markdown with the metadata of the Hub in front.
    """
    args, base = recipe.training, recipe.model.model_name_or_path
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    metrics = {name: f"{value:.4g}" for name, value in find_held_out(state, args).items()}
    if isinstance(train_records, Mixture):
        rows = [(one.name, one.num_chosen, one.num_visits) for one in train_records.describe()]
    else:
        rows = [("ST-Shapes", len(train_records), len(train_records))]
    return render_model_card(
        "trained",
        base_model=None if Path(base).exists() else base,
        library_name="peft" if recipe.plan.uses_peft else "transformers",
        title=Path(args.output_dir).resolve().name,
        base=name_source(base),
        is_adapter=recipe.plan.uses_peft,
        stage=recipe.model.stage,
        num_steps=state.global_step,
        batch_size=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        seed=args.seed,
        num_frames=recipe.data.num_frames or processor.video_processor.num_frames,
        data_table=format_table(("source", "records", "per epoch"), rows, markdown=True),
        loss=f"{losses[-1]:.4g}" if losses else None,
        num_skipped=num_skipped,
        metrics_table=format_table(("metric", "value"), metrics.items(), markdown=True) if metrics else "",
    )


__all__ = ["render_training_card"]
