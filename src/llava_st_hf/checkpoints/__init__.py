"""Checkpoints made from others: published ones into this layout, and a start from LLaVA-OneVision."""

from .convert import convert_checkpoint
from .initialize import initialize_checkpoint
from .merge import merge_checkpoint
from .writing import WrittenCheckpoint

__all__ = ["WrittenCheckpoint", "convert_checkpoint", "initialize_checkpoint", "merge_checkpoint"]
