"""Makes the untrained tiny model that `recipes/tiny/stage1` starts from: 1.7 M parameters, tokenizer and processor.

    python recipes/tiny/make_checkpoint.py outputs/tiny/init [--seed 0]

The proportions are those of the 7B model: a grid of 9x9 patches, packed 3x3 to 1, five frames to one. There is nothing
pretrained in it, so two things are set that a pretrained model brings along: the tokenizer is trained on the texts of
ST-Shapes, and the projector is scaled so that its features are as large as the coordinate rows that LAPE adds to them.
"""

import argparse
import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, Qwen2Tokenizer, SiglipImageProcessorPil

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTProcessor, LlavaSTVideoProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.processing.tasks_llava_st import TASKS
from llava_st_hf.processing.tokenization_llava_st import add_coordinate_tokens, add_media_tokens

IMAGE_SIZE, PATCH_SIZE, NUM_FRAMES = 72, 8, 20
NUM_TEXTS = 3000
CHAT_WORDS = "system\nYou are a helpful assistant.\nuser\nassistant\n"
_COORDINATE = re.compile(r"<[txy]=[^<>]*>")


def train_tokenizer(seed: int) -> Qwen2Tokenizer:
    """Train a byte-level tokenizer whose tokens are the words of ST-Shapes."""
    samples = ShapesDataset(list(TASKS), NUM_TEXTS, seed=seed, num_frames=8, size=32)
    texts = [CHAT_WORDS] * NUM_TEXTS
    for index in range(NUM_TEXTS):
        for message in samples[index].messages:
            texts += _COORDINATE.split(message["content"])
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


def make_processor(tokenizer: Qwen2Tokenizer) -> LlavaSTProcessor:
    """Make the processor around a tokenizer that has the media and coordinate tokens."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return LlavaSTProcessor(
        image_processor=SiglipImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer=tokenizer,
        video_processor=LlavaSTVideoProcessor(size=size, num_frames=NUM_FRAMES),
        patch_size=PATCH_SIZE,
    )


def make_config(processor: LlavaSTProcessor) -> LlavaSTConfig:
    """Make the config for the token ids of a processor."""
    tokenizer = processor.tokenizer
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
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "vocab_size": processor.coordinate_token_offset,
            "max_position_embeddings": 4096,
            **special,
        },
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        coordinate_token_offset=processor.coordinate_token_offset,
        packer_hidden_size=96,
        vision_chunk_size=1024,
        loss_chunk_size=4096,
        **special,
    )


@torch.no_grad()
def normalize_projector(model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, seed: int) -> None:
    """Scale both layers of the projector so that their outputs have a standard deviation of 1 on ST-Shapes images."""
    images = ShapesDataset(["rec"], 32, seed=seed, size=IMAGE_SIZE)
    pixels = LlavaSTDataCollator(processor)([images[index] for index in range(32)])["pixel_values"]
    layer = model.config.vision_feature_layer
    features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
    projector = model.model.multi_modal_projector
    projector.linear_1.weight.div_(projector.linear_1(features).std())
    projector.linear_2.weight.div_(projector(features).std())


def make_checkpoint(directory: Path, seed: int) -> None:
    """Write the checkpoint."""
    tokenizer = train_tokenizer(seed)
    add_media_tokens(tokenizer)
    add_coordinate_tokens(tokenizer)
    processor = make_processor(tokenizer)
    torch.manual_seed(seed)
    model = LlavaSTForConditionalGeneration(make_config(processor))
    normalize_projector(model, processor, seed)
    config = model.config.text_config
    model.generation_config = GenerationConfig(
        do_sample=False, pad_token_id=config.pad_token_id, eos_token_id=config.eos_token_id
    )
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    print(f"{directory}: {model.num_parameters() / 1e6:.2f} M parameters, {len(tokenizer)} tokens")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_checkpoint(arguments.directory, arguments.seed)
