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


def list_modules(code: str) -> list[str]:
    """Run code that prints a list as JSON in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_answering_imports_neither_data_nor_evaluation():
    code = (
        "import json, sys, llava_st_hf, llava_st_hf.demo, llava_st_hf.visualization\n"
        "parts = ('llava_st_hf.data', 'llava_st_hf.evaluation', 'llava_st_hf.training', 'llava_st_hf.hub')\n"
        "print(json.dumps([name for name in sys.modules if name.startswith(parts)]))"
    )
    assert list_modules(code) == []


def test_the_library_imports_nothing_that_is_optional():
    code = (
        "import json, sys, llava_st_hf, llava_st_hf.visualization, llava_st_hf.checkpoints\n"
        "from llava_st_hf.training import STAGES, apply_stage\n"
        "optional = ('trl', 'peft', 'datasets', 'matplotlib', 'pandas', 'pyarrow', 'supervision')\n"
        "print(json.dumps([name for name in optional if name in sys.modules]))"
    )
    assert list_modules(code) == []
