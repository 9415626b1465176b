"""Evaluation: metrics, protocols, benchmarks and the runner."""

from .answering import Answered, Answerer
from .audit import audit_predictions
from .benchmarks.base import Benchmark
from .benchmarks.held_out_records import HeldOutRecords
from .benchmarks.st_shapes import StShapes
from .blind_baseline import BlindBaseline, fit_blind_baseline
from .metrics import TubeIoU, compute_box_iou, compute_recall, compute_temporal_iou, compute_tube_iou
from .predictions import Predictions, read_predictions
from .protocols import MEASURES, PROTOCOLS, Protocol, get_protocol
from .runner import evaluate
from .scoring import score_predictions
from .truths import Truth, Truths, read_truths

__all__ = [
    "MEASURES",
    "PROTOCOLS",
    "Answered",
    "Answerer",
    "Benchmark",
    "BlindBaseline",
    "HeldOutRecords",
    "Predictions",
    "Protocol",
    "StShapes",
    "Truth",
    "Truths",
    "TubeIoU",
    "audit_predictions",
    "compute_box_iou",
    "compute_recall",
    "compute_temporal_iou",
    "compute_tube_iou",
    "evaluate",
    "fit_blind_baseline",
    "get_protocol",
    "read_predictions",
    "read_truths",
    "score_predictions",
]
