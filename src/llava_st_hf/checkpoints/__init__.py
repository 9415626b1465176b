"""Checkpoints made from others: published ones into this layout, and a start from LLaVA-OneVision."""
