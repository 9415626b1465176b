"""The library's common tests of processors."""

import random
import tempfile
import unittest
from unittest import mock

import numpy as np
from ecosystem.common_tests import import_common_tests
from random_checkpoint import PATCH_SIZE, make_random_checkpoint

from llava_st_hf import LlavaSTProcessor
from llava_st_hf.processing.media_llava_st import MediaError

common = import_common_tests("test_processing_common")


class LlavaSTProcessorTest(common.ProcessorTesterMixin, unittest.TestCase):
    processor_class = LlavaSTProcessor
    # An image is 81 tokens here, and a clip of 8 frames 26.
    images_text_kwargs_max_length = 217
    images_text_kwargs_override_max_length = 212
    images_unstructured_max_length = 176
    videos_text_kwargs_max_length = 267
    videos_text_kwargs_override_max_length = 262
    videos_unstructured_max_length = 276

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.model_id = str(make_random_checkpoint(folder.name))
        super().setUpClass()

    def setUp(self):
        random.seed(0)
        np.random.seed(0)  # the mixin draws from the global generators

    @staticmethod
    def prepare_processor_dict() -> dict:
        return {"patch_size": PATCH_SIZE}

    @property
    def video_sampling_expectations(self) -> list[dict]:
        return [  # of a clip of 40 frames, 10 a second
            {"num_frames": 3, "fps": None, "expected_dim": 1, "output_length": 3},
            {"num_frames": None, "fps": 5, "expected_dim": 1, "output_length": 20},
            {"do_sample_frames": False, "fps": 5, "expected_dim": 1, "output_length": 40},
            {"do_sample_frames": False, "expected_dim": 1, "output_length": 40},
            {"expected_dim": 1, "output_length": 20},
        ]

    def test_apply_chat_template_image_without_options_of_videos(self):
        apply_chat_template = LlavaSTProcessor.apply_chat_template

        def apply_without_options(*args, processor_kwargs=None, **kwargs):
            options = {name: value for name, value in (processor_kwargs or {}).items() if name != "num_frames"}
            return apply_chat_template(*args, processor_kwargs=options, **kwargs)

        with mock.patch.object(LlavaSTProcessor, "apply_chat_template", apply_without_options):
            self.test_apply_chat_template_image_0()
            self.test_apply_chat_template_image_1()

    def test_save_and_load_where_the_code_is_not_saved_too(self):
        with mock.patch.object(LlavaSTProcessor, "_auto_class", None):
            self.test_processor_from_and_save_pretrained()
            self.test_processor_from_and_save_pretrained_as_nested_dict()

    def test_only_the_caller_opens_the_network(self):
        processor = self.get_processor()
        processor.tokenizer.init_kwargs["allow_url"] = True  # as a tokenizer_config.json could have it
        for inputs in (
            {"text": "<image>", "images": "http://host/x.jpg"},
            {"text": "<video>", "videos": "http://host/x"},
        ):
            with self.assertRaisesRegex(MediaError, "pass allow_url=True"):
                processor(**inputs)
