"""Makes the model that `pretrain.py` begins with: 1.9 M parameters, tokenizer and processor.

A frame has 8x8 patches, packed to 4x4. The fast stream keeps these of each frame, the slow one joins five frames.
Weights begin near to what trained ones look like: with noise alone, looking at the right place is worth nothing before
what is there is copied, copying is worth nothing before the right place is looked at, and training does not move.
"""

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import GenerationConfig, Qwen2Tokenizer, SiglipImageProcessorPil

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTProcessor, LlavaSTVideoProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset
from llava_st_hf.processing import add_coordinate_tokens, add_media_tokens
from llava_st_hf.processing.notation_llava_st import NOTATION
from llava_st_hf.processing.prompt_expansion_llava_st import RAW_FAST_TOKENS

IMAGE_SIZE, PATCH_SIZE, NUM_FRAMES = 72, 9, 20
PATCH_SIDE, PACKED_SIDE = 8, 4  # patches, and tokens of the fast stream, along a side of a frame
STRIDES = {"spatial_stride": 2, "fast_spatial_stride": 1, "temporal_stride": 5}
# Mean and standard deviation of ST-Shapes pixels in 0 to 1: they are dark, and with the usual 0.5 nine tenths of what
# an untrained tower says of a patch is the same for every patch.
PIXELS = {"image_mean": [0.25] * 3, "image_std": [0.17] * 3}
NUM_TEXTS = 3000
CHAT_WORDS = "system\nYou are a helpful assistant.\nuser\nassistant\n"
# Waves over an axis: most tell rows half a patch apart, some go up or down over all of it, and tell early from late.
WAVES_PER_AXIS, SLOW_WAVES_PER_AXIS, SHARE_OF_SLOW_WAVES = 3.5, 0.4, 0.25
# Weights of the cosines of relative position, by frequency of the rotary embedding, in nats. The first prefers a token
# and the two before it, and less so what lies about 30 and 44 tokens back; the second the last twelve.
NEAR = {0: 2.0, 1: 2.0, 2: 2.0}
RECENT = {2: 1.5, 3: 3.0, 4: 3.0}
FIRST_SLOW_FREQUENCY = 7  # it turns by less than a quarter of a radian within 100 tokens
# By layer: head 0 looks from words to patches, head 1 near, head 2 at what is recent. None of these is among those
# that pretrain.py supervises.
LAYERS_OF_NAMING_HEADS, LAYERS_OF_NEAR_HEADS, LAYERS_OF_RECENT_HEADS = (0, 1), (0, 1), (1, 2)
ALIKE_GAIN = 0.6
PATCH_MARK, PATCH_PREFERENCE = 0.7, 8.0


def make_model(seed: int) -> tuple[LlavaSTForConditionalGeneration, LlavaSTProcessor]:
    """Make model and processor; `set_language_heads` waits for a projector that points at words."""
    tokenizer = train_tokenizer(seed)
    add_media_tokens(tokenizer)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in RAW_FAST_TOKENS])  # for the ablation without it
    config = make_config(tokenizer, add_coordinate_tokens(tokenizer).offset)
    pixels = {"size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, **PIXELS}
    processor = LlavaSTProcessor.from_config(
        config,
        tokenizer,
        image_processor=SiglipImageProcessorPil(**pixels),
        video_processor=LlavaSTVideoProcessor(**pixels, num_frames=NUM_FRAMES),
    )
    torch.manual_seed(seed)
    model = LlavaSTForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    nn.init.normal_(model.get_input_embeddings().weight)  # as large as features and coordinate rows
    set_copying_heads(model)
    smooth_patch_positions(model)
    smooth_coordinates(model)
    normalize_projector(model, processor, seed)
    return model, processor


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
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
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
        packer_hidden_size=96,
        vision_chunk_size=1024,
        loss_chunk_size=4096,
        **STRIDES,
        **special,
    )


@torch.no_grad()
def set_copying_heads(model: LlavaSTForConditionalGeneration) -> None:
    """Let every head look for what is alike and copy it (mimetic initialisation, arXiv 2305.09828)."""
    vision = [block.self_attn for block in model.model.vision_tower.encoder.layers]
    language = [block.self_attn for block in model.model.language_model.layers]
    layers = [layer for each in vision for layer in (each.q_proj, each.k_proj, each.v_proj, each.out_proj)]
    layers += [layer for each in language for layer in (each.q_proj, each.k_proj, each.v_proj, each.o_proj)]
    for layer in layers:
        width = layer.weight.shape[0]
        layer.weight.copy_(0.7 * torch.eye(width) + draw_noise(width, width, 0.5))


@torch.no_grad()
def smooth_patch_positions(model: LlavaSTForConditionalGeneration) -> None:
    """Let near patches begin with position embeddings that are alike."""
    positions = model.model.vision_tower.embeddings.position_embedding.weight
    rows, columns = (draw_smooth_functions(PATCH_SIDE, positions.shape[1]) for _ in range(2))
    positions.copy_(0.5 * (rows[:, None] + columns).flatten(0, 1))


@torch.no_grad()
def smooth_coordinates(model: LlavaSTForConditionalGeneration) -> None:
    """
    Let the rows of each axis begin as samples of smooth random functions, the same for input and output.

    Two rows are alike where their bins are less than a patch apart: a box then points at its patches, and a patch at
    its bins, before anything is learned. Published tables begin as independent noise, and training smooths them.
    """
    tables = model.model.coordinate_embeddings
    input_table, output_table = (table.split(tables.axis_sizes) for table in (tables.input_table, tables.output_table))
    for rows, output_rows in zip(input_table, output_table, strict=True):
        rows.copy_(draw_smooth_functions(*rows.shape))
        output_rows.copy_(rows * rows.shape[1] ** -0.5)


@torch.no_grad()
def normalize_projector(model: LlavaSTForConditionalGeneration, processor: LlavaSTProcessor, seed: int) -> None:
    """Scale and shift both layers of the projector: mean 0 and standard deviation 1 of their outputs on ST-Shapes."""
    images = ShapesDataset(["rec"], 32, seed=seed, size=IMAGE_SIZE)
    pixels = LlavaSTDataCollator(processor)([images[index] for index in range(32)])["pixel_values"]
    hidden_states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    features, projector = hidden_states[model.config.vision_feature_layer], model.model.multi_modal_projector
    for layer in (projector.linear_1, projector.linear_2):
        outputs = layer(features)
        mean, scale = outputs.mean((0, 1)), outputs.std((0, 1)).mean()
        layer.weight.div_(scale)
        layer.bias.sub_(mean).div_(scale)
        features = projector.act(layer(features))


@torch.no_grad()
def set_language_heads(model: LlavaSTForConditionalGeneration, names: torch.Tensor) -> None:
    """
    Set the heads of the language model that look at recent tokens, and from a word to the patches it names.

    The projector points at the embedding rows `names`, (words, hidden), and gets a mark that tells patches from words.
    """
    hidden = names.shape[1]
    alike = torch.linalg.svd(names, full_matrices=False)[2]
    mark = torch.randn(hidden)
    mark -= (alike @ mark) @ alike
    mark /= mark.norm()
    model.model.multi_modal_projector.linear_2.bias.add_(PATCH_MARK * hidden**0.5 * mark)
    attentions = [layer.self_attn for layer in model.model.language_model.layers]
    for index in LAYERS_OF_NAMING_HEADS:
        set_naming_head(attentions[index], 0, alike, mark)
    for index in LAYERS_OF_NEAR_HEADS:
        set_local_head(attentions[index], 1, NEAR)
    for index in LAYERS_OF_RECENT_HEADS:
        set_local_head(attentions[index], 2, RECENT)


def set_naming_head(attention: nn.Module, head: int, alike: torch.Tensor, mark: torch.Tensor) -> None:
    """Let a head compare tokens by what they say of `alike`, and prefer those with the mark."""
    part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    half = attention.head_dim // 2
    slow = [*range(FIRST_SLOW_FREQUENCY, half), *range(half + FIRST_SLOW_FREQUENCY, 2 * half)]
    for layer in (attention.q_proj, attention.k_proj):
        weight = draw_noise(attention.head_dim, alike.shape[1], 0.2)
        weight[slow[: len(alike)]] += ALIKE_GAIN * alike
        layer.weight[part] = weight
    attention.k_proj.weight[part][slow[-1]] += mark
    attention.q_proj.bias[part][slow[-1]] = PATCH_PREFERENCE
    set_copying(attention, part)


def set_local_head(attention: nn.Module, head: int, cosines: dict[int, float]) -> None:
    """Let a head look by relative position alone."""
    part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    for layer in (attention.q_proj, attention.k_proj):
        layer.weight[part] = draw_noise(attention.head_dim, layer.weight.shape[1], 0.3)
        for frequency, weight in cosines.items():
            layer.bias[part][frequency] = (weight * attention.head_dim**0.5) ** 0.5
    set_copying(attention, part)


def set_copying(attention: nn.Module, part: slice) -> None:
    """Let a head copy a random part of what it looks at, onto the same part of its own token."""
    width, hidden = attention.head_dim, attention.o_proj.weight.shape[0]
    copied = torch.linalg.qr(torch.randn(hidden, hidden))[0][:width]
    attention.v_proj.weight[part] = copied + draw_noise(width, hidden, 0.2)
    attention.o_proj.weight[:, part] = (2 * copied + draw_noise(width, hidden, 0.2)).T


def draw_noise(num_rows: int, width: int, scale: float) -> torch.Tensor:
    """Draw weights that change a vector of mean square 1 into one of mean square `scale ** 2`: (rows, width)."""
    return scale * width**-0.5 * torch.randn(num_rows, width)


def draw_smooth_functions(num_points: int, width: int) -> torch.Tensor:
    """Draw random waves along an axis: (points, width), of mean 0 and variance 1."""
    slow = torch.rand(width) < SHARE_OF_SLOW_WAVES
    waves = torch.randn(width) * torch.where(slow, SLOW_WAVES_PER_AXIS, WAVES_PER_AXIS)
    phases = torch.rand(width)
    angles = 2 * torch.pi * (torch.linspace(0, 1, num_points)[:, None] * waves + phases)
    return 2**0.5 * angles.cos()
