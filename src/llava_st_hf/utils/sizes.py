"""Sizes in bytes, as people write them, and whether a disk has room for them."""

import re
import shutil
from pathlib import Path

from ..processing import InputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def parse_size(text: str) -> int:
    """Read a size in bytes such as `"2GB"`, `"500MB"` or `"1GiB"`."""
    # huggingface_hub's own reading of sizes knows no GiB and no plain number, and lets -1GB through.
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?|)B?", text.strip().upper())
    if match is None or float(match[1]) <= 0:
        raise InputError(
            f"the size is {text!r}: give a number with KB, MB or GB, such as 2GB.", field="max_shard_size"
        )
    return int(float(match[1]) * _UNITS[match[2]])


def check_space(destination: str | Path, num_bytes: int) -> None:
    """Raise `InputError` where the disk of a file or folder to be written has less than so many bytes free."""
    path = Path(destination)
    existing = next(each for each in (path, *path.resolve().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise InputError(
            f"{destination} needs {num_bytes / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free: make room, or "
            "name a folder on another disk."
        )
