"""Every common test that does not run, or cannot pass, with the reason: the only place where that is said.

The keys are `class::test`, with the wildcards of `fnmatch`. conftest.py holds the tests to this table,
test_exceptions.py the table to the tests.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils import is_torchvision_available


@dataclass(frozen=True)
class Skips:
    """A test that skips itself with this message (a regular expression), and rightly so."""

    message: str
    reason: str


@dataclass(frozen=True)
class Needs(Skips):
    """A test that skips itself where a machine lacks something, and must pass where it is there."""


@dataclass(frozen=True)
class Fails:
    """A test of something this project does otherwise on purpose: it runs, and must fail with this message."""

    message: str
    reason: str


@dataclass(frozen=True)
class Adapts:
    """A setting or a helper of a mixin that the test class sets, beyond those that the mixin asks for."""

    reason: str


RESIZING = (
    "the coordinate ids follow the text ids and would change their meaning: resize_token_embeddings refuses, see "
    "test_resizing_the_vocabulary_is_refused"
)
NO_ROWS = (
    "coordinate ids have no rows in get_input_embeddings(); the same test runs on a prompt without them in "
    "{}_without_coordinates"
)

EXCEPTIONS: dict[str, Skips | Fails | Adapts] = {
    # Models ------------------------------------------------------------------------------------------------------
    "LlavaSTModelTest::test_can_init_all_missing_weights_before_2023": Adapts(
        "our files carry no year of copyright, so the mixin takes the model for an old one and would skip the test"
    ),
    "LlavaSTModelTest::test_all_params_have_gradient": Adapts(
        "features are read before the vision tower's last norm, which so gets no gradient; "
        "test_only_the_unused_norm_gets_no_gradient checks all others"
    ),
    "LlavaSTModelTest::test_resize_embeddings": Adapts(RESIZING),
    "LlavaSTModelTest::_is_composite": Adapts("the model has a vision and a text config"),
    "LlavaSTModelTest::test_resize_tokens_embeddings": Skips("test_resize_embeddings", RESIZING),
    "LlavaSTModelTest::test_resize_embeddings_untied*": Skips("test_resize_embeddings|deepspeed", RESIZING),
    "LlavaSTModelTest::test_resize_tokens_embeddings_with_deepspeed*": Skips("deepspeed", RESIZING),
    "LlavaSTModelTest::test_resize_position_vector_embeddings": Skips(
        "does not have position embeddings", "positions of the language model are rotary: there is no table to resize"
    ),
    "LlavaSTModelTest::test_inputs_embeds": Fails("index out of range", NO_ROWS.format("test_inputs_embeds")),
    "LlavaSTModelTest::test_inputs_embeds_matches_input_ids": Fails(
        "index out of range", NO_ROWS.format("test_inputs_embeds_matches_input_ids")
    ),
    "LlavaSTModelTest::test_reverse_loading_mapping": Fails(
        "No key mapping was performed",
        "the published layout is read, never written: save_pretrained keeps this project's names and refuses others, "
        "see test_saved_names_are_ours",
    ),
    "LlavaSTModelTest::test_can_init_all_missing_weights": Fails(
        r"(?s)^(?!.*called from `(?!Siglip)).*called from `SiglipPreTrainedModel`",
        "SigLIP's own initialisation differs between the two ways (a layer is initialised by its parent, then by "
        "itself); test_own_missing_weights_are_initialised checks all other weights",
    ),
    "LlavaSTModelTest::test_generation_tester_mixin_inheritance": Fails(
        "the tester must inherit from `GenerationTesterMixin`",
        "that mixin is not in the source distribution; tests/modeling/test_generation_llava_st.py stands in for it",
    ),
    "LlavaSTModelTest::test_keep_in_fp32_modules*": Skips(
        "has no _keep_in_fp32_modules|No `_keep_in_fp32_modules_strict`",
        "every module runs in the precision that the caller asks for",
    ),
    "LlavaSTModelTest::test_encoder_decoder_loss_no_double_shift": Skips(
        "not an encoder-decoder", "the language model is a decoder"
    ),
    "LlavaSTModelTest::test_eager_matches_batched_and_grouped_inference_*": Skips(
        "grouped_mm", "about mixtures of experts: the language model is dense"
    ),
    "LlavaSTModelTest::test_moe_models_record_router_logits": Skips(
        "no sparse experts", "about mixtures of experts: the language model is dense"
    ),
    "LlavaSTModelTest::test_output_router_logits_from_config": Skips(
        "no `output_router_logits`", "about mixtures of experts: the language model is dense"
    ),
    "LlavaSTModelTest::test_sdpa_can_dispatch_non_composite_models": Skips(
        "does not support SDPA", "the model is composite: test_sdpa_can_dispatch_composite_models runs"
    ),
    "LlavaSTModelTest::test_sliding_window_mask": Skips(
        "sliding window", "the test reads the window from the top config; here the text config alone may have one"
    ),
    "LlavaSTModelTest::test_model_rope_with_partial_rotation": Skips(
        "partial rope", "Qwen2 rotates every dimension of a head"
    ),
    "LlavaSTModelTest::test_vision_axial_rope": Skips("no axial RoPE", "SigLIP learns a vector for each position"),
    # What a machine may lack
    **{
        f"LlavaSTModelTest::{test}": Needs(message, f"needs {what}")
        for test, message, what in (
            ("test_can_load_with_*", "requires accelerator", "an accelerator"),
            ("test_cpu_offload", "requires accelerator", "an accelerator"),
            ("test_disk_offload_*", "requires accelerator", "an accelerator"),
            ("test_flex_attention_with_grads", "requires accelerator", "an accelerator"),
            ("test_sdpa_can_compile_dynamic", "requires accelerator|is slow", "an accelerator, and time"),
            ("test_sdpa_can_dispatch_on_flash", "requires accelerator|is slow", "an accelerator, and time"),
            ("test_torch_compile_for_training", "requires accelerator|is slow", "an accelerator, and time"),
            ("test_model_parallelism", "requires multiple accelerators", "several accelerators"),
            ("test_flash_attn_2_*", "requires Flash Attention", "FlashAttention 2"),
            ("test_flash_attn_3_*", "requires Flash Attention 3", "FlashAttention 3"),
            ("test_flash_attn_4_*", "requires Flash Attention 4", "FlashAttention 4"),
            ("test_flash_attn_kernels_*", "requires the kernels library|requires MPS", "the kernels library"),
            ("test_kernels_can_load_without_crashing", "requires the kernels library", "the kernels library"),
        )
    },
    # Training ----------------------------------------------------------------------------------------------------
    "LlavaSTTrainingTest::_create_text_training_batch": Adapts(
        "the mixin has the model learn text alone; here every third token of it becomes a coordinate"
    ),
    # Videos ------------------------------------------------------------------------------------------------------
    "LlavaSTVideoProcessingTest::test_call_sample_frames": Fails(
        "ValueError not raised",
        "asking for more frames than a clip has is no error here: the published sampling repeats frames; "
        "test_call_sample_frames_where_more_are_refused runs the same test on a processor that does not",
    ),
    "LlavaSTVideoProcessingTest::test_video_processor_from_dict_with_kwargs": Fails(
        "shortest_edge",
        "the test expects the sizes of CLIP, shortest edge and crop; the vision tower takes one fixed square",
    ),
    "LlavaSTVideoProcessingTest::test_override_instance_attributes_does_not_affect_other_instances": Skips(
        "does not have dict size", "what the test would write into cannot be written into: the size is a SizeDict"
    ),
    "LlavaSTVideoProcessingTest::test_video_processor_preprocess_arguments": Skips(
        "No validation found", "about two ways to check arguments that the library gave up; valid_kwargs replaced them"
    ),
    "LlavaSTVideoProcessingTest::test_can_compile_fast_video_processor": Needs(
        "requires accelerator|is slow", "needs an accelerator, and time"
    ),
    # Images: the processor is SigLIP's own, the mixin runs on it with our settings ---------------------------------
    "LlavaSTImageProcessingTest::test_override_instance_attributes_does_not_affect_other_instances": Skips(
        "does not have dict size", "what the test would write into cannot be written into: the size is a SizeDict"
    ),
    "LlavaSTImageProcessingTest::test_image_processor_preprocess_arguments": Skips(
        "No validation found", "about two ways to check arguments that the library gave up; valid_kwargs replaced them"
    ),
    "LlavaSTImageProcessingTest::test_pil_can_run_without_torchvision": Needs("is slow", "needs time"),
    "LlavaSTImageProcessingTest::test_can_compile_torchvision_backend": Needs(
        "requires accelerator|is slow", "needs an accelerator, and time"
    ),
    **{
        f"LlavaSTImageProcessingTest::{test}": Needs(message, "needs torchvision, to compare with")
        for test, message in (
            ("test_backends_equivalence*", "less than 2 backends"),
            ("test_save_load_backends*", "less than 2 backends"),
            ("test_fast_image_processor_explicit_none_preserved", "torchvision backend is not available"),
        )
    },
    # Processor ---------------------------------------------------------------------------------------------------
    "LlavaSTProcessorTest::prepare_processor_dict": Adapts("the checkpoint of the tests has smaller patches"),
    "LlavaSTProcessorTest::video_sampling_expectations": Adapts(
        "the clip made here has 40 frames, that of the Hub 11"
    ),
    "LlavaSTProcessorTest::*_max_length": Adapts("an image is 81 tokens, which lengths for shorter ones would cut"),
    "LlavaSTProcessorTest::test_apply_chat_template_video_frame_sampling": Fails(
        "ValueError not raised",
        "a clip as a list of the paths of its pictures may be sampled here: only the chosen ones are opened. The "
        "expected numbers of frames, which come before, hold",
    ),
    "LlavaSTProcessorTest::test_chat_template_save_loading": Fails(
        "is not that of LLaVA-ST, and a template is a program",
        "a template of a checkpoint that is not ours is run only when the caller says so",
    ),
    "LlavaSTProcessorTest::test_if_input_has_mismatching_tokens_and_mm_data": Fails(
        "all prompts together has 3 <image> placeholders but 4 images given",
        "it is the ValueError that the test wants, with a message that says what to do",
    ),
    "LlavaSTProcessorTest::test_model_input_names": Fails(
        "(?s)in the second set but not the first:.*'video_num_frames'",
        "video_num_frames is an input of the model only where clips differ in length",
    ),
    "LlavaSTProcessorTest::test_apply_chat_template_image_[01]": Fails(
        "num_frames is 2, but there is no video",
        "the test asks for a number of frames of an image: an option that has no effect is refused, not ignored; "
        "test_apply_chat_template_image_without_options_of_videos runs it without",
    ),
    "LlavaSTProcessorTest::test_processor_from_and_save_pretrained*": Fails(
        "'auto_map'",
        "the code is saved with the processor, and transformers then notes where it lies in the saved object, but not "
        "in the loaded one; test_save_and_load_where_the_code_is_not_saved_too runs the test without that",
    ),
    **{
        f"LlavaSTProcessorTest::{test}": Needs(
            "requires Torchcodec", "needs torchcodec, which this library does without"
        )
        for test in (
            "test_apply_chat_template_decoded_video",
            "test_apply_chat_template_video",
            "test_chat_template_audio_from_video",
        )
    },
    "LlavaSTProcessorTest::test_apply_chat_template_tool_calls_no_content": Skips(
        "does not support tools", "the model was never trained to call tools"
    ),
    **{
        f"LlavaSTProcessorTest::{test}": Skips(
            "requires librosa|(audio|feature extractor|feature_extractor|audio_processor) attribute not present|"
            "does not support audio|has no audio",
            "the model does not hear",
        )
        for test in (
            "test_apply_chat_template_audio*",
            "test_chat_template_audio_*",
            "test_get_num_multimodal_tokens_matches_processor_call_audio",
            "test_*_audio",
        )
    },
    # Pipelines ---------------------------------------------------------------------------------------------------
    "LlavaSTPipelineTest::test_pipeline_any_to_any*": Needs("Could not get the pipeline", "needs torchvision"),
    **{
        f"LlavaSTPipelineTest::test_pipeline_{task}": Skips(
            "is not in `self.pipeline_model_mapping`|requires (Timm|PyTesseract|PyAV)|currently not implemented",
            "a task of other kinds of models",
        )
        for name in (
            "audio_classification",
            "automatic_speech_recognition",
            "depth_estimation",
            "document_question_answering",
            "fill_mask",
            "image_classification",
            "image_feature_extraction",
            "image_segmentation",
            "mask_generation",
            "object_detection",
            "table_question_answering",
            "text_classification",
            "text_generation",
            "text_to_audio",
            "token_classification",
            "video_classification",
            "zero_shot",
            "zero_shot_audio_classification",
            "zero_shot_image_classification",
            "zero_shot_object_detection",
        )
        for task in (name, f"{name}_fp16")
    },
}
if not is_torchvision_available():
    EXCEPTIONS["LlavaSTImageProcessingTest::test_new_models_require_torchvision_backend"] = Fails(
        "must support the torchvision backend", "SigLIP's processor has one, which is used where torchvision is there"
    )
if "cache" in BaseModelOutputWithPast.__dataclass_fields__:  # transformers 5.24
    EXCEPTIONS |= {
        "LlavaSTModelTest::test_bc_cache_name_forward": Fails(
            "False is not true", "`past_key_values` is taken without a warning: with transformers 5.23 it is the name"
        ),
        "LlavaSTModelTest::test_multimodal_outputs_are_returned": Fails(
            "False is not true", "what the vision tower returns is not handed on: the packer joins it before any use"
        ),
    }


def find_exception(class_name: str, test_name: str) -> tuple[str | None, Skips | Fails | None]:
    """Return the key and the entry of a test."""
    name = f"{class_name}::{test_name}"
    for key, entry in EXCEPTIONS.items():
        if not isinstance(entry, Adapts) and fnmatchcase(name, key):
            return key, entry
    return None, None
