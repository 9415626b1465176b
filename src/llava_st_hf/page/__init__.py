"""A web page that asks a model about clips and images (Gradio)."""

from .answering import PageLimits
from .app import build_page, launch_page, require_gradio
from .examples import ExampleClip, write_example_clips

__all__ = ["ExampleClip", "PageLimits", "build_page", "launch_page", "require_gradio", "write_example_clips"]
