"""The page as a Space. Its variables: MODEL, a repository; NUM_FRAMES, the frames of a clip."""

import os

from llava_st_hf import load_pipeline
from llava_st_hf.demo import SHIPPED_CHECKPOINT, SHIPPED_MODEL
from llava_st_hf.page import PageLimits, launch_page

model = os.environ.get("MODEL")
launch_page(
    load_pipeline(model or SHIPPED_CHECKPOINT),
    notice=f"Ask a video or an image. Who answers: {model or SHIPPED_MODEL}.",
    default_frames=int(os.environ.get("NUM_FRAMES", 100 if model else 20)),
    limits=PageLimits(max_megabytes=50, max_seconds=180),
    host="0.0.0.0",
    port=int(os.environ.get("GRADIO_SERVER_PORT", 7860)),
    on_ready=lambda url: print(url, flush=True),
)
