"""Spans and boxes of an answer as soon as each of them is complete, while the rest is still being generated."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

from .grounding_results_llava_st import Box, Span, TubeBox
from .media_llava_st import InputError
from .notation_llava_st import NOTATION


class GroundingStreamer(BaseStreamer):
    """
    Hand over each span and each box of an answer when it is complete, in seconds and pixels.

    Where `build_constraints` made the arguments of `generate`, the numbers are those of the final result, refined and
    with their confidences; in a free answer they are those of the bins. One answer is followed at a time.

    Args:
        handle (`Callable[[Span | Box | TubeBox], None]`):
            Is given each span, each box of a tube (`TubeBox`, with its moment) and each box outside a tube (`Box`).
            `print` will do, or `put` of a queue.
        processor (`LlavaSTProcessor`, *optional*): The processor; a session or a pipeline brings its own.
        inputs (`LlavaSTBatchFeature`, *optional*): What it returned for the question, likewise.

    Example:

    ```python
    >>> streamer = GroundingStreamer(print, processor, inputs)
    >>> outputs = model.generate(**inputs, **processor.build_constraints(inputs), streamer=streamer)
    Span(start_seconds=1.0, end_seconds=4.5, confidence=0.93)
    >>> session.ask("stvg", query="a dog runs", generate={"streamer": GroundingStreamer(print)})
    Span(start_seconds=2.0, end_seconds=3.5, confidence=0.88)
    ```
    """

    def __init__(
        self,
        handle: Callable[[Span | Box | TubeBox], None],
        processor: Any = None,
        inputs: Mapping[str, Any] | None = None,
    ):
        self.handle = handle
        self.start(processor, inputs)

    def start(self, processor: Any, inputs: Mapping[str, Any] | None) -> None:
        """Say which question is answered next; a session and a pipeline do it by themselves."""
        self.processor, self.inputs = processor, inputs
        self._sees_prompt = True
        self._forget()

    def _forget(self) -> None:
        # What came since the last span or box that was complete, and the scores of its coordinates.
        self._ids: list[int] = []
        self._scores: list[torch.Tensor] = []

    def put(self, value: torch.Tensor, coordinate_scores: torch.Tensor | None = None) -> None:
        """
        Take the prompt, and after it new tokens.

        Args:
            value (`torch.Tensor` of shape `(1, tokens)` or `(tokens,)`): Ids.
            coordinate_scores (`torch.Tensor` of shape `(1, coordinates)`, *optional*): Scores of one new token.
        """
        if self._sees_prompt:
            if self.inputs is None:
                raise InputError("streamer knows no question: GroundingStreamer(handle, processor, inputs).")
            if value.ndim > 1 and len(value) > 1:
                raise InputError(
                    f"streamer is given with {len(value)} answers: it follows one at a time, generate one by one."
                )
            self._sees_prompt = False
            return
        for token_id in value.flatten().tolist():
            self._ids.append(token_id)
            if coordinate_scores is not None:
                self._scores.append(coordinate_scores)
            self._hand_over()

    def end(self) -> None:
        """Hand over what is left; the next thing to come is a prompt again."""
        self._hand_over(is_end=True)
        self.start(self.processor, self.inputs)

    def _hand_over(self, is_end: bool = False) -> None:
        text = self.processor.tokenizer.decode(self._ids, skip_special_tokens=True)
        lexemes = NOTATION.lex(text)
        if not lexemes:
            return
        if not is_end and (lexemes[-1].kind in "{[" or NOTATION.find_open_group(text) is not None):
            return
        outputs = SimpleNamespace(sequences=[self._ids], coordinate_scores=self._scores)
        (result,) = self.processor.post_process_grounding(outputs, self.inputs)
        found = [*result.spans, *result.boxes, *(entry for tube in result.tubes for entry in tube.boxes)]
        if found:
            self._forget()
        for item in found:
            self.handle(item)


__all__ = ["GroundingStreamer"]
