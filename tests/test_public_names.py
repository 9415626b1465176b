"""What is public is exported by its package, and importing the library does not import what it can do without."""

import importlib
import json
import subprocess
import sys

import pytest

PACKAGES = [
    "llava_st_hf",
    "llava_st_hf.checkpoints",
    "llava_st_hf.data",
    "llava_st_hf.data.exports",
    "llava_st_hf.data.shapes",
    "llava_st_hf.data.tools",
    "llava_st_hf.evaluation",
    "llava_st_hf.hub",
    "llava_st_hf.inference",
    "llava_st_hf.modeling",
    "llava_st_hf.processing",
    "llava_st_hf.training",
    "llava_st_hf.visualization",
]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_there_and_documented(name):
    package = importlib.import_module(name)
    assert len(set(package.__all__)) == len(package.__all__) > 0
    for public in package.__all__:
        value = getattr(package, public)
        assert public.isupper() or value.__doc__, public
        assert public.isupper() or public == value.__name__


def test_an_unknown_name_is_an_error():
    with pytest.raises(ImportError, match="cannot import name 'train'"):
        from llava_st_hf.training import train  # noqa: F401
    with pytest.raises(AttributeError, match=r"module 'llava_st_hf\.training' has no attribute 'train'"):
        _ = importlib.import_module("llava_st_hf.training").train


# What one process has imported, first where it only answers and then where it trains and converts as well.
IMPORTING = """
import json, sys
parts = ("llava_st_hf.data", "llava_st_hf.evaluation", "llava_st_hf.training", "llava_st_hf.hub")
optional = ("trl", "peft", "datasets", "matplotlib", "pandas", "pyarrow", "supervision")
import llava_st_hf, llava_st_hf.demo, llava_st_hf.visualization
found = [[name for name in sys.modules if name.startswith(parts)]]
import llava_st_hf.checkpoints
from llava_st_hf.training import STAGES, apply_stage
print(json.dumps([*found, [name for name in optional if name in sys.modules]]))
"""


def test_importing_brings_neither_what_answering_can_do_without_nor_what_is_optional():
    done = subprocess.run([sys.executable, "-c", IMPORTING], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [[], []]
