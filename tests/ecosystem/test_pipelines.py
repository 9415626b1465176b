"""The library's common tests of pipelines, for the tasks that a model of this kind can serve."""

import tempfile
import unittest
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from ecosystem.common_tests import import_common_tests
from PIL import Image
from random_checkpoint import make_random_checkpoint
from transformers import pipeline
from transformers.utils import is_torchvision_available

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTModel, LlavaSTProcessor

common = import_common_tests("test_pipeline_mixin")


class ImageTextToTextPipelineTests:
    """Stands in for the library's test of the task, which is not in its source distribution."""

    task = "image-text-to-text"

    def get_test_pipeline(self, model, tokenizer, image_processor=None, processor=None, dtype="float32"):
        generator = pipeline(self.task, model=model, processor=processor, dtype=dtype, max_new_tokens=4)
        pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        texts = ("What is in the picture?", "Where?")
        return generator, [self.make_example(Image.fromarray(pixels), text) for text in texts]

    def make_example(self, image: Image.Image, text: str) -> list[dict]:
        content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
        return [{"role": "user", "content": content}]

    def run_pipeline_test(self, generator, examples) -> None:
        for example in examples:
            (output,) = generator(example)
            assert output["input_text"] == example
            assert output["generated_text"][-1]["role"] == "assistant"
            assert isinstance(output["generated_text"][-1]["content"], str)
        together = generator([list(example) for example in examples])
        assert [output[0]["input_text"] for output in together] == examples


class AnyToAnyPipelineTests(ImageTextToTextPipelineTests):
    """The same conversations through the pipeline of models that may also write other things than text."""

    task = "any-to-any"

    def get_test_pipeline(self, *args, **kwargs):
        # Nothing in place of the pipeline lets the mixin skip the test.
        return super().get_test_pipeline(*args, **kwargs) if is_torchvision_available() else (None, None)


class FeatureExtractionPipelineTests:
    """Stands in for the library's test of the task, which is not in its source distribution."""

    def get_test_pipeline(self, model, tokenizer, image_processor=None, processor=None, dtype="float32"):
        return pipeline("feature-extraction", model=model, tokenizer=tokenizer, dtype=dtype), ["when", "where is it"]

    def run_pipeline_test(self, extractor, examples) -> None:
        for example in examples:
            features = torch.tensor(extractor(example))
            assert features.shape == (1, len(extractor.tokenizer(example).input_ids), 96)
            assert torch.isfinite(features).all()


class LlavaSTPipelineTest(common.PipelineTesterMixin, unittest.TestCase):
    pipeline_model_mapping = {
        "feature-extraction": LlavaSTModel,
        "image-text-to-text": LlavaSTForConditionalGeneration,
        "any-to-any": LlavaSTForConditionalGeneration,
    }

    @classmethod
    def setUpClass(cls):
        stack = ExitStack()
        cls.addClassCleanup(stack.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        components = {"tokenizer_classes": ["Qwen2Tokenizer"], "processor_classes": ["SiglipImageProcessorPil"]}
        names = ["LlavaSTModel", "LlavaSTForConditionalGeneration"]
        for name in names:
            make_random_checkpoint(folder / "llava_st" / name)
        stand_ins = {
            "feature-extraction": FeatureExtractionPipelineTests,
            "image-text-to-text": ImageTextToTextPipelineTests,
            "any-to-any": AnyToAnyPipelineTests,
        }
        tests = {task: {"test": f"{__name__}.{stand_in.__name__}"} for task, stand_in in stand_ins.items()}
        # The mixin would look for a tiny checkpoint on the Hub, and for its classes in the library.
        for target, attribute, value in (
            (common, "TRANSFORMERS_TINY_MODEL_PATH", str(folder)),
            (common, "tiny_model_summary", dict.fromkeys(names, components)),
            (common, "pipeline_test_mapping", {**common.pipeline_test_mapping, **tests}),
            (common, "PROCESSOR_MAPPING_NAMES", {"llava_st": "LlavaSTProcessor"}),
            (common.transformers_module, "LlavaSTProcessor", LlavaSTProcessor),
        ):
            stack.enter_context(mock.patch.object(target, attribute, value, create=True))
