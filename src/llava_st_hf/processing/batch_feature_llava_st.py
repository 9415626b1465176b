"""What is known beside the tensors until an answer is read: the media of each sample, and what it asks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from transformers import BatchFeature

from .media_llava_st import MediaInfo

# Key of a chat message under which the question travels to `post_process_grounding`; no template renders it.
GROUNDING_KEY = "grounding"
_NOTE = "_llava_st_questions"  # attribute of a tensor of ids


@dataclass(frozen=True)
class GroundingContext:
    """
    What was asked, kept beside the inputs until the answer is read.

    Args:
        task (`str`, *optional*): Name of the task.
        query (`str`, *optional*): The event, object or question of the prompt.
        start_seconds (`float`, *optional*): Start of the event where the prompt gave it in seconds.
        start_fraction (`float`, *optional*): The same where the prompt gave it as a fraction of the clip.
        span_seconds (`tuple[float, float]`, *optional*): Start and end of the prompt where it gave them in seconds.
        span_fractions (`tuple[float, float]`, *optional*): The same as fractions of the clip.

    Example:

    ```python
    >>> GroundingContext(task="tvg", query="the dog barks").query
    'the dog barks'
    ```
    """

    task: str | None = None
    query: str | None = None
    start_seconds: float | None = None
    start_fraction: float | None = None
    span_seconds: tuple[float, float] | None = None
    span_fractions: tuple[float, float] | None = None

    @classmethod
    def from_messages(cls, messages: Sequence[Mapping[str, Any]]) -> "GroundingContext":
        """Return what `to_entry` noted in the last message that has a note."""
        notes = [message[GROUNDING_KEY] for message in messages if message.get(GROUNDING_KEY)]
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in notes[-1].items() if key in known} if notes else {})

    def to_entry(self) -> dict[str, Any]:
        """Return the entry of a chat message that `from_messages` makes this of again."""
        return {GROUNDING_KEY: {key: value for key, value in asdict(self).items() if value is not None}}

    def get_start_seconds(self, medium: MediaInfo) -> float | None:
        """Return the start of the event in seconds of a clip, `None` where the prompt gave none."""
        if self.start_seconds is None and self.start_fraction is not None:
            return medium.seconds_at(self.start_fraction)
        return self.start_seconds

    def get_span_fractions(self, medium: MediaInfo) -> tuple[float, float] | None:
        """Return start and end of the prompt as fractions of a clip, `None` where it gave none."""
        if self.span_fractions is None and self.span_seconds is not None:
            return tuple(medium.fraction_at(seconds) for seconds in self.span_seconds)
        return self.span_fractions


class LlavaSTBatchFeature(BatchFeature):
    """
    The processor's output: a dictionary of tensors for the model, and beside it what is known of the media.

    Only the dictionary reaches `model.generate(**inputs)`; `media` and `contexts` survive `.to(device)`, copying and
    pickling. They are noted on the tensor of `input_ids` as well, so that `find_questions` finds them in a plain
    dictionary, `{**inputs}`, too; with any other tensor of ids it finds nothing.

    Args:
        data (`dict`, *optional*): The tensors.
        tensor_type (`str`, *optional*): `"pt"` or `"np"`.
        skip_tensor_conversion (`list[str]`, *optional*): Keys to leave as they are.
        media (`Sequence[tuple[MediaInfo, ...]]`, *optional*, defaults to `()`):
            The media of each sample, in the order of their placeholders.
        contexts (`Sequence[GroundingContext]`, *optional*, defaults to `()`): What each sample asks.

    Example:

    ```python
    >>> inputs = LlavaSTBatchFeature({"input_ids": [[1]]}, "pt", media=[(MediaInfo("image", 640, 480),)])
    >>> inputs.media[0][0].width, list(inputs)
    (640, ['input_ids'])
    ```
    """

    def __init__(
        self,
        data: dict[str, Any] | None = None,
        tensor_type: str | None = None,
        skip_tensor_conversion: list[str] | None = None,
        media: Sequence[tuple[MediaInfo, ...]] = (),
        contexts: Sequence[GroundingContext] = (),
    ):
        super().__init__(data, tensor_type, skip_tensor_conversion)
        self.set_questions(media, contexts)

    def set_questions(
        self, media: Sequence[tuple[MediaInfo, ...]], contexts: Sequence[GroundingContext]
    ) -> "LlavaSTBatchFeature":
        """Keep the media of each sample and what it asks."""
        self.media = list(media)
        self.contexts = list(contexts) or [GroundingContext()] * len(self.media)
        if isinstance(self.data.get("input_ids"), torch.Tensor):
            # Plain values: a tensor that was saved with the note is loaded without the code of this class.
            note = {
                "media": [[_list_fields(medium) for medium in sample] for sample in self.media],
                "contexts": [_list_fields(context) for context in self.contexts],
            }
            setattr(self.data["input_ids"], _NOTE, note)
        return self

    def to(self, *args, **kwargs) -> "LlavaSTBatchFeature":
        """Move the tensors to a device and floating-point ones to a type; `coordinate_offsets` stays float32."""
        offsets = self.data.get("coordinate_offsets")
        super().to(*args, **kwargs)
        if hasattr(offsets, "device"):  # lists, without return_tensors, stay where they are
            self.data["coordinate_offsets"] = offsets.to(self.data["coordinate_offsets"].device)
        return self.set_questions(self.media, self.contexts)

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "media": self.media, "contexts": self.contexts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.set_questions(self.media, self.contexts)


def find_questions(
    inputs: Mapping[str, Any] | None,
) -> tuple[list[tuple[MediaInfo, ...]], list[GroundingContext]] | None:
    """Return the media of each sample and what it asks, `None` where inputs do not know them any more."""
    if hasattr(inputs, "media"):
        return inputs.media, inputs.contexts
    note = getattr((inputs or {}).get("input_ids"), _NOTE, None)
    if note is None:
        return None
    media = [tuple(MediaInfo(**medium) for medium in sample) for sample in note["media"]]
    return media, [GroundingContext(**context) for context in note["contexts"]]


def _list_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; what it keeps beside them is left out."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


__all__ = ["GroundingContext", "LlavaSTBatchFeature", "find_questions"]
