"""Makes the pictures of these pages: the answer of the demo, and the truth of one ST-Shapes record of each task.

python docs/make_pictures.py [FOLDER]
"""

import argparse
import tempfile
from pathlib import Path

from llava_st_hf import load_pipeline
from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset
from llava_st_hf.data.tools.show import draw_record
from llava_st_hf.data.turns import read_turns
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip

SEED = 11
SIDE = 216  # pixels of a rendered clip or image


def make_pictures(folder: Path) -> list[Path]:
    """Write `demo.jpg` and `<task>.jpg` for each task that ST-Shapes asks; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        clip = write_demo_clip(Path(scratch) / "clip.mp4")
        load_pipeline(SHIPPED_CHECKPOINT)(str(clip), DEMO_QUERY).save(folder / "demo.jpg")
    for task in SHAPES_TASKS:
        sample = ShapesDataset([task], 1, seed=SEED, size=SIDE, difficulty="easy", encode=True)[0]
        draw_record(sample, read_turns(sample, probe_media(sample, num_frames=20)), folder / f"{task}.jpg")
    return [folder / "demo.jpg", *(folder / f"{task}.jpg" for task in SHAPES_TASKS)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "pictures")
    for path in make_pictures(parser.parse_args().folder):
        print(path)
