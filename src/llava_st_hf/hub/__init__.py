"""What goes to the Hub: cards."""

from .cards import SourceFacts, render_dataset_card

__all__ = ["SourceFacts", "render_dataset_card"]
