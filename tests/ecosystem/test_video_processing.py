"""The library's common tests of video processors."""

import unittest
from unittest import mock

import numpy as np
from ecosystem.common_tests import import_common_tests
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from llava_st_hf import LlavaSTVideoProcessor

common = import_common_tests("test_video_processing_common")


class LlavaSTVideoProcessingTester:
    def __init__(self):
        self.batch_size, self.num_frames, self.num_channels = 5, 8, 3
        self.min_resolution, self.max_resolution = 30, 80
        self.size = {"height": 20, "width": 20}

    def prepare_video_processor_dict(self) -> dict:
        return {
            "do_resize": True,
            "size": self.size,
            "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "num_frames": self.num_frames,
        }

    def expected_output_video_shape(self, videos: list) -> list[int]:
        return [self.num_frames, 3, self.size["height"], self.size["width"]]

    def prepare_video_inputs(self, equal_resolution: bool = False, return_tensors: str = "pil") -> list:
        return common.prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=self.min_resolution,
            max_resolution=self.max_resolution,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )


class NeverRepeats(LlavaSTVideoProcessor):
    def sample_frames(self, metadata, num_frames=None, **kwargs):
        if num_frames is not None and num_frames > metadata.total_num_frames:
            raise ValueError("more frames than there are")
        return super().sample_frames(metadata, num_frames=num_frames, **kwargs)


class LlavaSTVideoProcessingTest(common.VideoProcessingTestMixin, unittest.TestCase):
    fast_video_processing_class = LlavaSTVideoProcessor
    test_cast_dtype = True

    def setUp(self):
        super().setUp()
        np.random.seed(0)  # the mixin draws from numpy's global generator
        self.video_processor_tester = LlavaSTVideoProcessingTester()
        # Without torchvision the top-level name is a placeholder; the class itself does not need it.
        patch = mock.patch.object(common, "AutoVideoProcessor", AutoVideoProcessor)
        patch.start()
        self.addCleanup(patch.stop)

    @property
    def video_processor_dict(self) -> dict:
        return self.video_processor_tester.prepare_video_processor_dict()

    def test_call_sample_frames_where_more_are_refused(self):
        self.video_processor_list = [NeverRepeats]
        self.test_call_sample_frames()

    def test_more_frames_than_there_are_repeat_some(self):
        video = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((3, 4, 4, 3), dtype=np.uint8)
        processor = LlavaSTVideoProcessor(do_resize=False, do_rescale=False, do_normalize=False)
        pixels = processor(video, num_frames=5, return_tensors="pt")["pixel_values_videos"]
        self.assertEqual(pixels[0, :, 0, 0, 0].tolist(), [0, 0, 1, 2, 2])
