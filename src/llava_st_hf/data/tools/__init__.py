"""What the commands on data do: check, show, stats, convert, publish, prepare."""

from .check import check_records
from .convert import convert_annotations
from .prepare import Preparation
from .publish import publish_dataset
from .show import draw_record
from .stats import collect_statistics, write_statistics

__all__ = [
    "Preparation",
    "check_records",
    "collect_statistics",
    "convert_annotations",
    "draw_record",
    "publish_dataset",
    "write_statistics",
]
