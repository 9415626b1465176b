"""Training data: the canonical record, what reads it from files, mixes it, skips, batches and publishes it."""

from .annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from .cards import SourceFacts, render_dataset_card
from .collator import LlavaSTDataCollator
from .media_loading import LoadedMedia, load_media
from .media_probe import probe_media
from .mixture import Mixture
from .mixture_spec import MixtureSpec, SourceSpec
from .readers.base import FileReader, Reader
from .readers.registry import FORMATS, guess_format, open_reader
from .sample_writing import make_sample
from .samples import Media, Sample, get_features
from .shapes import SHAPES_TASKS, ShapesDataset, write_shapes
from .skips import RecordError, SkipReport, TooManySkipsError, read_skip_report

__all__ = [
    "FORMATS",
    "SHAPES_TASKS",
    "AnnotatedBox",
    "AnnotatedSpan",
    "AnnotatedTube",
    "Annotation",
    "FileReader",
    "LlavaSTDataCollator",
    "LoadedMedia",
    "Media",
    "Mixture",
    "MixtureSpec",
    "Reader",
    "RecordError",
    "Sample",
    "ShapesDataset",
    "SkipReport",
    "SourceFacts",
    "SourceSpec",
    "TooManySkipsError",
    "get_features",
    "guess_format",
    "load_media",
    "make_sample",
    "open_reader",
    "probe_media",
    "read_skip_report",
    "render_dataset_card",
    "write_shapes",
]
