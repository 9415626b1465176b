"""A small randomly initialised checkpoint, and a clip, for tests that do not mind what the answer is."""

from pathlib import Path

import av
import numpy as np
import torch
from peft import get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, Qwen2Tokenizer

from llava_st_hf.modeling.configuration_llava_st import LlavaSTConfig
from llava_st_hf.modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from llava_st_hf.processing.processing_llava_st import LlavaSTProcessor
from llava_st_hf.processing.tasks_llava_st import TASKS
from llava_st_hf.processing.tokenization_llava_st import add_coordinate_tokens, add_media_tokens
from llava_st_hf.processing.video_processing_llava_st import LlavaSTVideoProcessor
from llava_st_hf.training import make_lora_config

IMAGE_SIZE, PATCH_SIZE = 54, 6  # a grid of 9x9 patches
FRAME_SIZE = (240, 320)  # height, width
FRAMES_PER_SECOND, CLIP_SECONDS = 10, 4


def write_circle_clip(path: str | Path) -> Path:
    """
    Render a clip of 4 seconds, 320x240: a red circle crosses a grey texture from left to right after one second.

    Args:
        path (`str` or `Path`): Where to write the mp4 (H.264).

    Returns:
        `Path`: The file written.
    """
    height, width = FRAME_SIZE
    texture = np.random.default_rng(0).integers(110, 150, (height // 8, width // 8, 1), dtype=np.uint8)
    background = np.kron(texture, np.ones((8, 8, 3), dtype=np.uint8))
    rows, columns = np.mgrid[:height, :width]
    path = Path(path)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(FRAMES_PER_SECOND * CLIP_SECONDS):
            travelled = max(0.0, index / FRAMES_PER_SECOND - 1) / (CLIP_SECONDS - 1)
            centre_x = 40 + travelled * (width - 80)
            frame = background.copy()
            frame[(columns - centre_x) ** 2 + (rows - height / 2) ** 2 < 28**2] = (220, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def make_random_checkpoint(directory: str | Path, seed: int = 0) -> Path:
    """
    Write a randomly initialised checkpoint of under 3 MB: model, tokenizer, processor and generation config.

    Args:
        directory (`str` or `Path`): Where to write it; made where it does not exist.
        seed (`int`, *optional*, defaults to 0): Seed of the weights.

    Returns:
        `Path`: The directory.
    """
    directory = Path(directory)
    tokenizer = train_tokenizer()
    add_media_tokens(tokenizer)
    offset = add_coordinate_tokens(tokenizer).offset
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    config = LlavaSTConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": offset,
            "max_position_embeddings": 4096,
            **special,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        coordinate_token_offset=offset,
        packer_hidden_size=64,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaSTForConditionalGeneration(config)
    model.generation_config = GenerationConfig(do_sample=False, **special)
    model.save_pretrained(directory)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    video_processor = LlavaSTVideoProcessor(size=size, num_frames=20)
    LlavaSTProcessor.from_config(config, tokenizer, video_processor=video_processor).save_pretrained(directory)
    return directory


def make_random_adapter(checkpoint: Path, folder: Path, rank: int = 2, scale: float = 0.3) -> Path:
    """Write an adapter of a checkpoint with its processor, as a run leaves it; without a scale it changes nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(LlavaSTForConditionalGeneration.from_pretrained(checkpoint), make_lora_config(rank))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=scale)
    model.save_pretrained(folder)
    LlavaSTProcessor.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


def train_tokenizer() -> Qwen2Tokenizer:
    """Train a byte-level tokenizer on the prompts of the tasks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Those of the published tasks, so that another task does not change what its tests generate.
    tasks = [task for task in TASKS.values() if not task.name.endswith("_several")]
    texts = [text for task in tasks for text in (*task.prompts, task.example_answer)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = tokenizer._tokenizer if hasattr(tokenizer, "_tokenizer") else tokenizer
    return Qwen2Tokenizer(
        tokenizer_object=trained,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=4096,
    )
