"""The library's common tests of image processors, on the one that LLaVA-ST takes from SigLIP."""

import unittest

import numpy as np
from ecosystem.common_tests import import_common_tests
from transformers import SiglipImageProcessor, SiglipImageProcessorPil
from transformers.utils import is_torchvision_available

common = import_common_tests("test_image_processing_common")


class LlavaSTImageProcessingTester(common.ImageProcessingTester):
    def __init__(self, parent):
        super().__init__(
            parent,
            max_resolution=80,
            do_resize=True,
            size={"height": 18, "width": 18},
            do_normalize=True,
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        )

    def _get_image_processing_classes(self) -> dict[str, type]:
        backends = {"pil": SiglipImageProcessorPil}
        if is_torchvision_available():
            backends["torchvision"] = SiglipImageProcessor
        return backends


class LlavaSTImageProcessingTest(common.ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = LlavaSTImageProcessingTester
    test_cast_dtype = True

    def setUp(self):
        super().setUp()
        np.random.seed(0)  # the mixin draws from numpy's global generator
