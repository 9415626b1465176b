"""Makes the pictures of these pages: the answer of the demo, and the truth of one ST-Shapes record of each task.

python docs/make_pictures.py [FOLDER]
"""

import argparse
import tempfile
from pathlib import Path

from llava_st_hf import TASKS, load_pipeline
from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset
from llava_st_hf.data.tools.show import draw_record, merge_turns
from llava_st_hf.data.turns import read_turns
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip
from llava_st_hf.visualization import draw_contact_sheet, save_picture

SEED = 11
SIDE, IMAGE_SIDE = 216, 432  # pixels of a rendered clip or image
SHEET = {"columns": 4, "rows": 2, "cell_pixels": SIDE}  # whose text can be read at the width of a page


def make_pictures(folder: Path) -> list[Path]:
    """Write `demo.jpg` and `<task>.jpg` for each task that ST-Shapes asks; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        clip = write_demo_clip(Path(scratch) / "clip.mp4")
        answer = load_pipeline(SHIPPED_CHECKPOINT)(str(clip), DEMO_QUERY)
        save_picture(draw_contact_sheet(clip, answer, **SHEET), folder / "demo.jpg")
    for task in SHAPES_TASKS:
        is_image = TASKS[task].media_type == "image"
        size = IMAGE_SIDE if is_image else SIDE
        sample = ShapesDataset([task], 1, seed=SEED, size=size, difficulty="easy", encode=True)[0]
        turns = read_turns(sample, probe_media(sample, num_frames=20))
        if is_image:
            draw_record(sample, turns, folder / f"{task}.jpg", overwrite=True)
        else:
            sheet = draw_contact_sheet(sample.media[0].content, merge_turns(turns), **SHEET)
            save_picture(sheet, folder / f"{task}.jpg")
    return [folder / "demo.jpg", *(folder / f"{task}.jpg" for task in SHAPES_TASKS)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "pictures")
    for path in make_pictures(parser.parse_args().folder):
        print(path)
