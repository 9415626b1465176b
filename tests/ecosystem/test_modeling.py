"""The library's common tests of models, configurations and training."""

import copy
import unittest
from unittest import mock

import torch
from ecosystem.common_tests import import_common_tests
from ecosystem.model_tester import LlavaSTModelTester
from transformers.models.auto import modeling_auto

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel

common = import_common_tests("test_modeling_common")
ConfigTester = import_common_tests("test_configuration_common").ConfigTester
TrainingTesterMixin = import_common_tests("test_training_mixin").TrainingTesterMixin


class LlavaSTModelTest(common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (LlavaSTModel, LlavaSTForConditionalGeneration)
    _torch_compile_train_cls = LlavaSTForConditionalGeneration
    test_all_params_have_gradient = False
    test_can_init_all_missing_weights_before_2023 = True
    test_resize_embeddings = False
    _is_composite = True

    @classmethod
    def setUpClass(cls):
        # The mixin looks up what a class is for by its name, in tables of the library's own classes.
        for table, name in (
            (modeling_auto.MODEL_MAPPING_NAMES, "LlavaSTModel"),
            (modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, "LlavaSTForConditionalGeneration"),
        ):
            patch = mock.patch.dict(table, {"llava_st": name})
            patch.start()
            cls.addClassCleanup(patch.stop)

    def setUp(self):
        self.model_tester = LlavaSTModelTester(self)

    def test_inputs_embeds_without_coordinates(self):
        self.model_tester.has_coordinates = False
        self.test_inputs_embeds()

    def test_inputs_embeds_matches_input_ids_without_coordinates(self):
        self.model_tester.has_coordinates = False
        self.test_inputs_embeds_matches_input_ids()

    def test_own_missing_weights_are_initialised(self):
        config = self.model_tester.get_config()
        for model_class in self.all_model_classes:
            with common.seeded_weight_init():
                expected = model_class(copy.deepcopy(config)).state_dict()
                model = model_class.from_pretrained(None, config=copy.deepcopy(config), state_dict={})
            for name, weight in model.state_dict().items():
                if "vision_tower" not in name:
                    torch.testing.assert_close(weight, expected[name], rtol=0, atol=0, msg=name)

    def test_only_the_unused_norm_gets_no_gradient(self):
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = LlavaSTForConditionalGeneration(config)
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
        norm = "model.vision_tower.post_layernorm"
        self.assertEqual(without, {f"{norm}.weight", f"{norm}.bias"})


class LlavaSTConfigTest(unittest.TestCase):
    def setUp(self):
        self.model_tester = LlavaSTModelTester(self)

    def test_config(self):
        ConfigTester(
            self,
            config_class=LlavaSTConfig,
            has_text_modality=False,
            common_properties=["image_token_id", "video_token_id", "coordinate_token_offset", "total_vocab_size"],
            num_temporal_tokens=7,
            splice_fast_tokens=False,
        ).run_common_tests()


class LlavaSTTrainingTest(TrainingTesterMixin, unittest.TestCase):
    all_model_classes = (LlavaSTForConditionalGeneration,)
    model_tester = None

    def setUp(self):
        self.model_tester = LlavaSTModelTester(self)
        get_config = self.model_tester.get_config

        def get_config_with_vocab_size() -> LlavaSTConfig:
            config = get_config()
            config.vocab_size = config.text_config.vocab_size  # the mixin asks the top config for it
            return config

        self.model_tester.get_config = get_config_with_vocab_size

    def _create_text_training_batch(
        self, batch_size: int, seq_length: int, vocab_size: int
    ) -> dict[str, torch.Tensor]:
        batch = super()._create_text_training_batch(batch_size, seq_length, vocab_size)
        ids = torch.where(batch["input_ids"] % 3 == 0, vocab_size + batch["input_ids"] // 3, batch["input_ids"])
        return {"input_ids": ids, "labels": ids.clone()}
