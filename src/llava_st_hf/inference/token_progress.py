"""How far an answer is: a streamer that counts its tokens as they come."""

from collections.abc import Callable

import torch


class TokenProgress:
    """
    Counts the tokens of an answer, which `generate` hands over as they come.

    Args:
        on_tokens (`Callable[[int, int], None]`):
            Called with the tokens that are new, 0 for the prompt, and with those so far; what it raises ends the work.

    Example:

    ```python
    >>> ground("clip.mp4", "a dog runs", streamer=TokenProgress(lambda new, total: print(total)))
    ```
    """

    def __init__(self, on_tokens: Callable[[int, int], None]):
        self.on_tokens, self.num_tokens = on_tokens, 0

    def put(self, value: torch.Tensor) -> None:
        """Count tokens; plain `generate` hands over the prompt first, as a row."""
        new = value.numel() if value.ndim == 1 else 0
        self.num_tokens += new
        self.on_tokens(new, self.num_tokens)

    def end(self) -> None:
        """Do nothing: another answer may follow."""
