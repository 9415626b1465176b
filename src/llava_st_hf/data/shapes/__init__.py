"""ST-Shapes: clips and images of moving coloured shapes with true answers for every task of the paper, made here."""

from .dataset import ShapesDataset, write_shapes
from .encoding import encode_sample
from .questions import SHAPES_TASKS, shapes_vocabulary

__all__ = ["SHAPES_TASKS", "ShapesDataset", "encode_sample", "shapes_vocabulary", "write_shapes"]
