"""What goes to the Hub: cards, results, and folders that are sent."""

from .cards import SourceFacts, render_dataset_card
from .contents import CardOptions
from .push import push_folder

__all__ = ["CardOptions", "SourceFacts", "push_folder", "render_dataset_card"]
