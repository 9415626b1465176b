"""The checkpoint that ships with the package, and a clip to try it on."""

from pathlib import Path

SHIPPED_CHECKPOINT = Path(__file__).parent / "assets" / "llava-st-tiny-shapes"
SHIPPED_MODEL = "llava-st-tiny-shapes, which comes with llava-st-hf and knows moving coloured shapes only"
SHIPPED_MODEL_NOTICE = (
    "No model was named, so the small one that comes with this package answers. It knows moving coloured shapes "
    "(ST-Shapes) only: on a real clip its answer means nothing. Name a real one: llava-st ground CLIP QUERY "
    "--model ID_OR_DIR."
)
# A clip that was not trained on, in which two of four shapes move.
DEMO_SEED, DEMO_INDEX = 2_000_000, 19
DEMO_QUERY = "the purple square moves up"
DEMO_SIDE = 288


def write_demo_clip(path: str | Path, overwrite: bool = False) -> Path:
    """Render a clip of ST-Shapes as MP4 (H.264), 4 seconds of 288x288 pixels, and return its path."""
    from .data.shapes import ShapesDataset  # who only asks the checkpoint does without
    from .visualization import writing_beside

    clips = ShapesDataset(["stvg"], DEMO_INDEX + 1, seed=DEMO_SEED, size=DEMO_SIDE, encode=True)
    path, content = Path(path), clips[DEMO_INDEX].media[0].content
    if path.is_file() and path.read_bytes() == content:
        return path
    with writing_beside(path, None, overwrite) as temporary_path:
        temporary_path.write_bytes(content)
    return path
