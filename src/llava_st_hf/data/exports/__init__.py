"""Answers in the files of other tools: trackers, annotation tools, players."""

from .answers import read_answers
from .registry import EXPORT_FORMATS, ExportFormat, ExportSummary, export_answers

__all__ = ["EXPORT_FORMATS", "ExportFormat", "ExportSummary", "export_answers", "read_answers"]
