"""Makes the tiny model that all of `make tiny` starts from: 1.9 M parameters, tokenizer and processor.

    python recipes/tiny/make_checkpoint.py outputs/tiny/init [--seed 0] [--steps 3500] [--bf16 true]

A frame has 8x8 patches, packed to 4x4. The fast stream keeps these of each frame, the slow one joins five frames.

The published stages start from a pretrained model, so some things are made here that such a model brings along: the
tokenizer is trained on the texts of ST-Shapes, and the vision tower to tell what it sees and where. Attention and
coordinate rows begin near to what trained ones look like.
"""

import argparse
from pathlib import Path

import torch
from initial_attention import set_copying_heads, set_language_heads
from pretrain_vision_tower import add_training_arguments, find_rows, pretrain_vision_tower
from scene_labels import NAMES
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import GenerationConfig, Qwen2Tokenizer, SiglipImageProcessorPil

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTProcessor, LlavaSTVideoProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset
from llava_st_hf.processing.notation_llava_st import NOTATION
from llava_st_hf.processing.prompt_expansion_llava_st import RAW_FAST_TOKENS
from llava_st_hf.processing.tokenization_llava_st import add_coordinate_tokens, add_media_tokens

IMAGE_SIZE, PATCH_SIZE, NUM_FRAMES = 72, 9, 20
STRIDES = {"spatial_stride": 2, "fast_spatial_stride": 1, "temporal_stride": 5}
# Mean and standard deviation of ST-Shapes pixels in 0 to 1: they are dark, and with the usual 0.5 nine tenths of what
# an untrained tower says of a patch is the same for every patch.
PIXELS = {"image_mean": [0.25] * 3, "image_std": [0.17] * 3}
NUM_TEXTS = 3000
NUM_STEPS = 3500
# Waves over an axis: most tell rows half a patch apart, some go up or down over all of it, and tell early from late.
WAVES_PER_AXIS, SLOW_WAVES_PER_AXIS, SHARE_OF_SLOW_WAVES = 3.5, 0.4, 0.25
CHAT_WORDS = "system\nYou are a helpful assistant.\nuser\nassistant\n"


def train_tokenizer(seed: int) -> Qwen2Tokenizer:
    """Train a byte-level tokenizer whose tokens are the words of ST-Shapes."""
    samples = ShapesDataset(SHAPES_TASKS, NUM_TEXTS, seed=seed, num_frames=NUM_FRAMES, size=32)
    texts = [CHAT_WORDS] * NUM_TEXTS
    for index in range(NUM_TEXTS):
        for message in samples[index].messages:
            texts += NOTATION.replace_coordinates(message["content"], lambda coordinate: "\0").split("\0")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Qwen2Tokenizer(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=4096,
    )


def make_config(tokenizer: Qwen2Tokenizer, coordinate_token_offset: int) -> LlavaSTConfig:
    """Make the config for the ids of a tokenizer that has the media and coordinate tokens."""
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return LlavaSTConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 96,
            "intermediate_size": 288,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "vocab_size": coordinate_token_offset,
            "max_position_embeddings": 4096,
            "initializer_range": 0.08,  # about width ** -0.5: at the usual 0.02 attention starts out blind
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},  # as that of the 7B model
            **special,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        coordinate_token_offset=coordinate_token_offset,
        packer_hidden_size=96,
        **STRIDES,
        vision_chunk_size=1024,
        loss_chunk_size=4096,
        **special,
    )


def make_processor(config: LlavaSTConfig, tokenizer: Qwen2Tokenizer) -> LlavaSTProcessor:
    """Make the processor of the model around its tokenizer."""
    pixels = {"size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, **PIXELS}
    return LlavaSTProcessor.from_config(
        config,
        tokenizer,
        image_processor=SiglipImageProcessorPil(**pixels),
        video_processor=LlavaSTVideoProcessor(**pixels, num_frames=NUM_FRAMES),
    )


@torch.no_grad()
def normalize_projector(model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, seed: int) -> None:
    """Scale and shift both layers of the projector: mean 0 and standard deviation 1 of their outputs on ST-Shapes."""
    images = ShapesDataset(["rec"], 32, seed=seed, size=IMAGE_SIZE)
    pixels = LlavaSTDataCollator(processor)([images[index] for index in range(32)])["pixel_values"]
    layer = model.config.vision_feature_layer
    features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
    projector = model.model.multi_modal_projector
    for layer in (projector.linear_1, projector.linear_2):
        outputs = layer(features)
        mean, scale = outputs.mean((0, 1)), outputs.std((0, 1)).mean()
        layer.weight.div_(scale)
        layer.bias.sub_(mean).div_(scale)
        features = projector.act(layer(features))


@torch.no_grad()
def smooth_patch_positions(model: LlavaSTForConditionalGeneration) -> None:
    """Let near patches begin with position embeddings that are alike."""
    positions = model.model.vision_tower.embeddings.position_embedding.weight
    side = IMAGE_SIZE // PATCH_SIZE
    rows, columns = (draw_smooth_functions(side, positions.shape[1]) for _ in range(2))
    positions.copy_(0.5 * (rows[:, None] + columns).flatten(0, 1))


@torch.no_grad()
def smooth_coordinates(model: LlavaSTForConditionalGeneration) -> None:
    """
    Let the rows of each axis begin as samples of smooth random functions, the same for input and output.

    Two rows are alike where their bins are less than a patch apart: a box then points at its patches, and a patch at
    its bins, before anything is learned. Published tables begin as independent noise, and training smooths them.
    """
    tables = model.model.coordinate_embeddings
    for rows, output_rows in zip(
        tables.input_table.split(tables.axis_sizes), tables.output_table.split(tables.axis_sizes), strict=True
    ):
        rows.copy_(draw_smooth_functions(*rows.shape))
        output_rows.copy_(rows * rows.shape[1] ** -0.5)


def draw_smooth_functions(num_points: int, width: int) -> torch.Tensor:
    """Draw random waves along an axis: (points, width), of mean 0 and variance 1."""
    slow = torch.rand(width) < SHARE_OF_SLOW_WAVES
    waves = torch.randn(width) * torch.where(slow, SLOW_WAVES_PER_AXIS, WAVES_PER_AXIS)
    phases = torch.rand(width)
    angles = 2 * torch.pi * (torch.linspace(0, 1, num_points)[:, None] * waves + phases)
    return 2**0.5 * angles.cos()


def make_checkpoint(directory: Path, steps: int, seed: int, bf16: bool) -> None:
    """Write the checkpoint."""
    tokenizer = train_tokenizer(seed)
    add_media_tokens(tokenizer)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in RAW_FAST_TOKENS])  # for the ablation without it
    config = make_config(tokenizer, add_coordinate_tokens(tokenizer).offset)
    processor = make_processor(config, tokenizer)
    torch.manual_seed(seed)
    model = LlavaSTForConditionalGeneration(config)
    nn.init.normal_(model.get_input_embeddings().weight)  # as large as features and coordinate rows
    set_copying_heads(model)
    smooth_patch_positions(model)
    smooth_coordinates(model)
    normalize_projector(model, processor, seed)
    pretrain_vision_tower(model, processor, steps, seed, bf16)
    set_language_heads(model, torch.cat([find_rows(model, processor, names) for names in NAMES]))
    model.generation_config = GenerationConfig(
        do_sample=False, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    print(f"{directory}: {model.num_parameters() / 1e6:.2f} M parameters, {len(tokenizer)} tokens")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    add_training_arguments(parser, NUM_STEPS)
    make_checkpoint(**vars(parser.parse_args()))
