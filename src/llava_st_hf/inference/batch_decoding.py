"""Decoding many answers of different lengths: one that has ended leaves the batch, so that it costs nothing more."""

from typing import Any

import torch

from ..processing.constrained_generation_llava_st import CACHE_NAME
from .growing_cache import make_growing_cache

_LEAVING = 8  # rows leave when they are at least this part of the batch: the keys and values of the others are copied


def decode_batch(
    model: Any,
    input_ids: torch.LongTensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **model_kwargs: Any,
) -> torch.LongTensor:
    """
    Decode greedily; the tokens are those of `generate` without it. It is the `custom_generate` of `generate`.

    Args:
        model, stopping_criteria, generation_config, model_kwargs: As `generate` prepared them.
        input_ids (`torch.LongTensor` of shape `(batch, tokens)`): The prompts, padded on the left.
        logits_processor (`LogitsProcessorList`): Of processors that know no rows.

    Returns:
        `torch.LongTensor` of shape `(batch, tokens)`: Prompts and answers, padded on the right.
    """
    if not model_kwargs[CACHE_NAME].get_seq_length():
        model_kwargs[CACHE_NAME] = make_growing_cache()
    outputs = model._prefill(input_ids, generation_config, model_kwargs)
    model_kwargs.pop("mm_encoder_outputs", None)  # they are in the cache now
    pad = generation_config._pad_token_tensor
    ids, rows, answers = input_ids, torch.arange(len(input_ids), device=input_ids.device), list(input_ids)
    unfinished = torch.ones_like(rows, dtype=torch.bool)
    while True:
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
        logits = outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=ids.device)
        next_ids = logits_processor(ids, logits).argmax(-1).where(unfinished, pad)
        ids = torch.cat([ids, next_ids[:, None]], dim=-1)
        unfinished &= ~stopping_criteria(ids, None)
        num_left = int(unfinished.sum())
        if num_left <= len(rows) * (_LEAVING - 1) // _LEAVING:
            for place in (~unfinished).nonzero().flatten().tolist():
                answers[int(rows[place])] = ids[place]
            if not num_left:
                return torch.nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=int(pad))
            kept = unfinished.nonzero().flatten()
            ids, rows, unfinished = ids[kept], rows[kept], unfinished[kept]
            model_kwargs[CACHE_NAME].batch_select_indices(kept)
            for name, value in model_kwargs.items():
                if torch.is_tensor(value) and value.ndim:
                    model_kwargs[name] = value[kept]
        outputs = model(
            **model.prepare_inputs_for_generation(ids, next_sequence_length=1, **model_kwargs), return_dict=True
        )
