"""A cache of keys and values that grows in steps, so that a token more does not copy those of all tokens before."""

from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

_STEP = 128  # tokens


class _GrowingLayer(DynamicLayer):
    """Keeps room behind its keys and values, which are views of the beginning; the numbers are the same."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values, each (batch, heads, tokens, width), and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rooms: list[torch.Tensor] | None = None
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._rooms is None or end > self._rooms[0].shape[-2]:
            olds, news = (self.keys, self.values), (key_states, value_states)
            self._rooms = [new.new_empty(*new.shape[:-2], end + _STEP, new.shape[-1]) for new in news]
            for room, old in zip(self._rooms, olds, strict=True):
                if start:
                    room[..., :start, :] = old
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[..., start:end, :] = new
        self.keys, self.values = (room[..., :end, :] for room in self._rooms)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep some rows of the batch, with their room."""
        length = self.get_seq_length()
        self._rooms = [room[indices] for room in self._rooms]
        self.keys, self.values = (room[..., :length, :] for room in self._rooms)


def make_growing_cache() -> Cache:
    """Make an empty cache for answers that are decoded token by token, without beams."""
    return Cache(layer_class_to_replicate=_GrowingLayer)
