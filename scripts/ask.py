# /// script
# requires-python = ">=3.11"
# dependencies = ["llava-st-hf"]
# ///
"""Asks a clip or an image: `llava-st ground` without an installation.

uv run scripts/ask.py clip.mp4 "a child in a red hat holds a bat" --model ID_OR_DIR --json answer.json
"""

import sys

from llava_st_cli import main

if __name__ == "__main__":
    sys.exit(main(["ground", *sys.argv[1:]]))
