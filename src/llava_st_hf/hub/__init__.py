"""What goes to the Hub: cards, results, and folders that are sent."""

from .contents import CardOptions
from .push import push_folder

__all__ = ["CardOptions", "push_folder"]
