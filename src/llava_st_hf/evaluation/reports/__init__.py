"""What a run found, for people: a page that needs nothing from outside, and the same in Markdown."""

from .comparison import write_comparison
from .run_report import write_report

__all__ = ["write_comparison", "write_report"]
