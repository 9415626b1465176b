"""The benchmarks and the model for other people's harnesses: lmms-eval finds the model by its entry point."""

from typing import Any


def make_manifests() -> list[Any]:
    """Return what lmms-eval knows the model by; it asks for the entry point `lmms_eval.models`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest("llava_st", chat_class_path=f"{__name__}.lmms_model.LlavaST")]


__all__ = ["make_manifests"]
