"""ST-Shapes: clips and images of moving coloured shapes with true answers for the 15 tasks, made here."""

from .dataset import ShapesDataset, write_shapes
from .encoding import encode_sample
from .questions import shapes_vocabulary

__all__ = ["ShapesDataset", "encode_sample", "shapes_vocabulary", "write_shapes"]
