"""What the attention of the tiny model looks like before it is trained: near to what trained ones look like.

With random weights alone, to look at the right place is worth nothing before what is there is copied, and to copy is
worth nothing before the right place is looked at: training does not move for a long time. So every head begins as one
that looks for what is alike and copies it (mimetic initialisation, arXiv 2305.09828), and some heads of the language
model as one of two kinds that trained models are known for: to look at the last few tokens, and to look from a word to
what it names.
"""

import torch
from torch import nn

from llava_st_hf import LlavaSTForConditionalGeneration

# Weights of the cosines of relative position, by frequency of the rotary embedding, in nats. The first prefers a token
# and the two before it, and less so what lies about 30 and 44 tokens back; the second the last twelve.
NEAR = {0: 2.0, 1: 2.0, 2: 2.0}
RECENT = {2: 1.5, 3: 3.0, 4: 3.0}
FIRST_SLOW_FREQUENCY = 7  # it turns by less than a quarter of a radian within 100 tokens
# By layer: head 0 looks from words to patches, head 1 near, head 2 at what is recent. None of these is
# among those that pretrain_events.py and pretrain_lookups.py supervise.
LAYERS_OF_NAMING_HEADS, LAYERS_OF_NEAR_HEADS, LAYERS_OF_RECENT_HEADS = (0, 1), (0, 1), (1, 2)
ALIKE_GAIN = 0.6
PATCH_MARK, PATCH_PREFERENCE = 0.7, 8.0


@torch.no_grad()
def set_copying_heads(model: LlavaSTForConditionalGeneration) -> None:
    """Let every head of the vision tower and of the language model look for what is alike and copy it."""
    attentions = [block.self_attn for block in model.model.vision_tower.encoder.layers]
    layers = [layer for each in attentions for layer in (each.q_proj, each.k_proj, each.v_proj, each.out_proj)]
    attentions = [block.self_attn for block in model.model.language_model.layers]
    layers += [layer for each in attentions for layer in (each.q_proj, each.k_proj, each.v_proj, each.o_proj)]
    for layer in layers:
        width = layer.weight.shape[0]
        layer.weight.copy_(0.7 * torch.eye(width) + 0.5 * width**-0.5 * torch.randn(width, width))


@torch.no_grad()
def set_language_heads(model: LlavaSTForConditionalGeneration, names: torch.Tensor) -> None:
    """
    Set the heads of the language model that look at recent tokens, and from a word to the patches it names.

    Args:
        model (`LlavaSTForConditionalGeneration`): Its projector points at `names`, and gets a mark by which patches
            can be told from words.
        names (`torch.Tensor`): Embedding rows of the words: (words, hidden).
    """
    hidden = names.shape[1]
    alike = torch.linalg.svd(names, full_matrices=False)[2]
    mark = torch.randn(hidden)
    mark -= (alike @ mark) @ alike
    mark /= mark.norm()
    model.model.multi_modal_projector.linear_2.bias.add_(PATCH_MARK * hidden**0.5 * mark)
    layers = model.model.language_model.layers
    for index in LAYERS_OF_NAMING_HEADS:
        set_naming_head(layers[index].self_attn, 0, alike, mark)
    for index in LAYERS_OF_NEAR_HEADS:
        set_local_head(layers[index].self_attn, 1, NEAR)
    for index in LAYERS_OF_RECENT_HEADS:
        set_local_head(layers[index].self_attn, 2, RECENT)


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
