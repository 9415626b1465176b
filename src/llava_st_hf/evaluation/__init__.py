"""Evaluation: metrics, protocols, benchmarks and the runner."""

from .answering import Answered, Answerer
from .benchmarks.base import Benchmark
from .benchmarks.held_out_records import HeldOutRecords
from .benchmarks.st_shapes import StShapes
from .blind_baseline import BlindBaseline, fit_blind_baseline
from .metrics import TubeIoU, compute_box_iou, compute_recall, compute_temporal_iou, compute_tube_iou
from .protocols import MEASURES, PROTOCOLS, Protocol, get_protocol
from .runner import evaluate

__all__ = [
    "MEASURES",
    "PROTOCOLS",
    "Answered",
    "Answerer",
    "Benchmark",
    "BlindBaseline",
    "HeldOutRecords",
    "Protocol",
    "StShapes",
    "TubeIoU",
    "compute_box_iou",
    "compute_recall",
    "compute_temporal_iou",
    "compute_tube_iou",
    "evaluate",
    "fit_blind_baseline",
    "get_protocol",
]
