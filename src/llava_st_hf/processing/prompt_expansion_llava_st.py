"""From a text with placeholders and coordinates to the text that the tokenizer gets, and back onto its ids.

A `PromptWriter` puts into one text the tokens of its media and of its coordinates. What the text alone no longer says,
a `WrittenSample` keeps: where each coordinate lies below its bin, and how many tokens the media take. After the
tokenizer, `check_lengths` tells whether all of it fits, and `place_offsets` lays the offsets beside the ids.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .image_loading_llava_st import count_per_sample, flatten_images, flatten_videos
from .media_llava_st import MediaInfo, PromptError, PromptLengthError
from .notation_llava_st import (
    COORDINATE_PATTERN,
    InlineCoordinate,
    check_groups,
    check_misspelled,
    compute_bins,
    compute_fraction,
    format_coordinate_token,
    read_coordinate,
)

# Parity: tokens of the published vocabulary that take the place of what the published weights never saw embedded.
RAW_FAST_TOKENS = ("<vid_start>", "<vid_patch>", "<vid_end>")
RAW_WIDTH_TOKEN = "<WIDTH-INPUT>"

# transformers puts this mark before a control token that a user typed (`sanitize_control_tokens=True`).
_UNMARKED = "(?<!\U000f0000)"
_SURROGATE = re.compile("[\ud800-\udfff]")
_ASSISTANT_TURN = re.compile(
    rf"{_UNMARKED}<\|im_start\|>assistant\n(?P<answer>.*?)(?P<end>{_UNMARKED}<\|im_end\|>|\Z)", re.DOTALL
)


class WrittenSample(NamedTuple):
    """One text as the tokenizer gets it, with what the text alone no longer says."""

    text: str
    offsets: np.ndarray  # (coordinate tokens,) float32
    media: tuple[MediaInfo, ...]
    num_media_tokens: int
    replacements: list[dict[str, Any]]  # as `text_replacement_offsets` of transformers


@dataclass(frozen=True)
class PromptWriter:
    """
    Puts the tokens of media and of coordinates into texts; the arguments are those of `LlavaSTProcessor`.

    Args:
        image_token (`str`): Placeholder of an image.
        video_token (`str`): Placeholder of a video.
        num_temporal_tokens (`int`): Number of time tokens.
        num_spatial_tokens (`int`): Number of tokens of each of height and width.
        embed_width_inputs (`bool`): Whether `<x=..>` outside an answer becomes a coordinate token.

    Example:

    ```python
    >>> PromptWriter("<image>", "<video>", 100, 100, True).write("at <y=0.5>", iter(()), iter(())).text
    'at <y_49>'
    ```
    """

    image_token: str
    video_token: str
    num_temporal_tokens: int
    num_spatial_tokens: int
    embed_width_inputs: bool

    def check_placeholders(self, texts: Sequence[str], images: Any, videos: Any) -> None:
        """Raise `PromptError` where texts have more or fewer placeholders than media are given."""
        if not all(isinstance(sample, str) for sample in texts):
            raise PromptError("text holds something that is not a string: give a string or a list of strings.")
        for index, sample in enumerate(texts):
            check_encodable(f"prompt {index}" if len(texts) > 1 else "the prompt", sample)
        for token, name, media, flatten in (
            (self.image_token, "image", images, flatten_images),
            (self.video_token, "video", videos, flatten_videos),
        ):
            wanted = [len(re.findall(_UNMARKED + re.escape(token), sample)) for sample in texts]
            given = count_per_sample(media, len(texts), flatten)
            where = "the prompt" if len(texts) == 1 else "all prompts together"
            if given is None:
                wanted, given = [sum(wanted)], [len(flatten(media))]
            for index, (num_wanted, num_given) in enumerate(zip(wanted, given, strict=True)):
                if num_wanted != num_given:
                    where = f"prompt {index}" if len(wanted) > 1 else where
                    raise PromptError(
                        f"{where} has {num_wanted} {token} placeholder{'s' * (num_wanted != 1)} but {num_given} "
                        f"{name}{'s' * (num_given != 1)} given: give one {name} for each, and do not type {token} "
                        "inside a question."
                    )

    def count_placeholders(self, text: str) -> tuple[int, int]:
        """Return how many images and how many videos a text has placeholders for."""
        tokens = (self.image_token, self.video_token)
        num_images, num_videos = (len(re.findall(_UNMARKED + re.escape(token), text)) for token in tokens)
        return num_images, num_videos

    def write(
        self,
        text: str,
        images: Iterator[tuple[str, MediaInfo]],
        videos: Iterator[tuple[str, MediaInfo]],
    ) -> WrittenSample:
        """Replace placeholders and coordinates of one text; takes its media from the front of the two iterators."""
        check_misspelled(_ASSISTANT_TURN.sub("\n", text))  # what the assistant says is not the user's to fix
        placeholders = f"(?P<image>{re.escape(self.image_token)})|(?P<video>{re.escape(self.video_token)})"
        matches = list(re.finditer(f"{_UNMARKED}(?:{placeholders})|{COORDINATE_PATTERN}", text))
        media, num_media_tokens, written = [], 0, [""] * len(matches)
        coordinates: list[InlineCoordinate] = []
        preceding, places = [], []
        for place, match in enumerate(matches):
            if match.lastgroup in ("image", "video"):
                written[place], medium = next(images if match.lastgroup == "image" else videos)
                media.append(medium)
                num_media_tokens += written[place].count("<")
            else:
                coordinates.append(read_coordinate(match))
                preceding.append(len(media))
                places.append(place)
        tokens, offsets = self._write_coordinates(text, coordinates, media, preceding)
        for place, token in zip(places, tokens, strict=True):
            written[place] = token
        pieces, replacements, end, length = [], [], 0, 0
        for match, replacement in zip(matches, written, strict=True):
            pieces += [text[end : match.start()], replacement]
            length += match.start() - end
            replacements.append(
                {
                    "type": match.lastgroup if match["axis"] is None else "coordinate",
                    "span": match.span(),
                    "new_span": (length, length + len(replacement)),
                    "text": match.group(),
                    "replacement": replacement,
                }
            )
            length += len(replacement)
            end = match.end()
        pieces.append(text[end:])
        return WrittenSample("".join(pieces), offsets, tuple(media), num_media_tokens, replacements)

    def _write_coordinates(
        self, text: str, coordinates: list[InlineCoordinate], media: list[MediaInfo], preceding: list[int]
    ) -> tuple[list[str], np.ndarray]:
        """Return the token for each coordinate of a text, and the offsets of those that became coordinate tokens."""
        sizes = {"t": self.num_temporal_tokens, "y": self.num_spatial_tokens, "x": self.num_spatial_tokens}
        fractions = [
            compute_fraction(coordinate, media, sizes[coordinate.axis], count)
            for coordinate, count in zip(coordinates, preceding, strict=True)
        ]
        answers = [match.span("answer") for match in _ASSISTANT_TURN.finditer(text)]
        in_answer = [any(start <= c.start < end for start, end in answers) for c in coordinates]
        # What the assistant says is not the user's to fix: a reversed box of an earlier answer stays as it is.
        asked = [index for index, answered in enumerate(in_answer) if not answered]
        check_groups(text, [coordinates[index] for index in asked], [fractions[index] for index in asked])

        tokens = [""] * len(coordinates)
        offsets = np.zeros(len(coordinates), dtype=np.float32)
        is_token = np.ones(len(coordinates), dtype=bool)
        for axis, size in sizes.items():
            places = [index for index, coordinate in enumerate(coordinates) if coordinate.axis == axis]
            bins, offsets[places] = compute_bins([fractions[index] for index in places], size)
            for index, bin_index in zip(places, bins.tolist(), strict=True):
                tokens[index] = format_coordinate_token(axis, bin_index)
        for index, coordinate in enumerate(coordinates):
            if coordinate.unit == "bin":
                # k / (N - 1) times (N - 1) can miss k by a rounding error.
                tokens[index], offsets[index] = format_coordinate_token(coordinate.axis, int(coordinate.value)), 0
            elif coordinate.axis == "x" and not self.embed_width_inputs and not in_answer[index]:
                # Parity: the reference leaves width inputs raw (llava_arch.py:563); published weights expect it.
                tokens[index], is_token[index] = RAW_WIDTH_TOKEN, False
        return tokens, offsets[is_token]


def check_encodable(name: str, text: str) -> None:
    """Raise `PromptError` for a text with halves of surrogate pairs, as a shell's undecodable bytes become."""
    if match := _SURROGATE.search(text):
        raise PromptError(
            f"{name} holds {match.group()!r} at character {match.start()}, which is half a character or a byte that "
            "is not UTF-8: give it as UTF-8 text.",
            field=name,
        )


def choose_padding(texts: Sequence[str], kwargs: dict[str, Any], return_tensors: Any) -> dict[str, Any]:
    """Return how to pad where the caller does not say: tensors to the longest, open turns on the left."""
    asked = {**kwargs, **kwargs.get("text_kwargs", {})}
    chosen = {}
    if "padding" not in asked and return_tensors is not None:
        chosen["padding"] = True
    if "padding_side" not in asked and any(_ends_in_open_turn(sample) for sample in texts):
        chosen["padding_side"] = "left"
    return chosen


def check_lengths(
    rows: Sequence[np.ndarray],
    masks: Sequence[Any],
    samples: Sequence[WrittenSample],
    media_token_ids: Sequence[int],
    limit: int,
    text_kwargs: dict[str, Any],
) -> None:
    """
    Check that tokenized texts fit into the context with all of their media.

    Args:
        rows (`Sequence[np.ndarray]`): Ids of each text.
        masks (`Sequence`): 1 for each id that is no padding.
        samples (`Sequence[WrittenSample]`): The texts.
        media_token_ids (`Sequence[int]`): Ids of the tokens that media are made of.
        limit (`int`): Number of tokens that the context holds.
        text_kwargs (`dict`): Arguments of the tokenizer.

    Raises:
        `PromptError`: When a text is too long, or truncation cut into its media.
    """
    truncation = _is_truncated(text_kwargs)
    for index, (row, mask, sample) in enumerate(zip(rows, masks, samples, strict=True)):
        where = f"prompt {index}" if len(samples) > 1 else "the prompt"
        length = int(np.asarray(mask).sum())
        if not truncation and length > limit:
            raise PromptLengthError(
                f"{where} has {length} tokens, {sample.num_media_tokens} of them for media, but the context "
                f"(model_max_length) holds {limit}: give fewer frames (num_frames), fewer media or a shorter text."
            )
        if truncation and np.isin(row, media_token_ids).sum() < sample.num_media_tokens:
            raise _make_cut_error(where, sample.num_media_tokens, text_kwargs.get("max_length") or limit)


def check_media_tokens(counts: Sequence[int], limit: int, text_kwargs: dict[str, Any]) -> int:
    """
    Check, before any medium is read, that the context holds the tokens that media alone take.

    Args:
        counts (`Sequence[int]`): How many tokens the media of each text take at least.
        limit (`int`): Number of tokens that the context holds.
        text_kwargs (`dict`): Arguments of the tokenizer.

    Returns:
        `int`: Number of tokens that one text may have.

    Raises:
        `PromptError`: When media alone take more.
    """
    truncation = _is_truncated(text_kwargs)
    most = (text_kwargs.get("max_length") or limit) if truncation else limit
    for index, count in enumerate(counts):
        if count <= most:
            continue
        where = f"prompt {index}" if len(counts) > 1 else "the prompt"
        if truncation:
            raise _make_cut_error(where, count, most)
        raise PromptLengthError(
            f"{where} has {count} tokens for media alone, but the context (model_max_length) holds {limit}: give "
            "fewer frames (num_frames) or fewer media."
        )
    return most


def _is_truncated(text_kwargs: dict[str, Any]) -> bool:
    return text_kwargs.get("truncation") not in (None, False, "do_not_truncate")


def _make_cut_error(where: str, num_media_tokens: int, max_length: int) -> PromptLengthError:
    return PromptLengthError(
        f"max_length is {max_length}, which cuts into the {num_media_tokens} tokens for media of {where}: raise "
        "max_length, give fewer frames (num_frames) or turn truncation off."
    )


def place_offsets(
    rows: Sequence[np.ndarray],
    samples: Sequence[WrittenSample],
    first_id: int,
    num_tokens: int,
    truncation_side: str,
) -> list[np.ndarray]:
    """
    Return an offset for each id of each row: that of a coordinate token, 0 for any other.

    Args:
        rows (`Sequence[np.ndarray]`): Ids of each text.
        samples (`Sequence[WrittenSample]`): The texts.
        first_id (`int`): Id of the first coordinate token.
        num_tokens (`int`): Number of coordinate tokens.
        truncation_side (`str`): `"left"` or `"right"`, the tokenizer's.

    Returns:
        `list[np.ndarray]`: `float32`, as long as the rows.
    """
    placed = []
    for row, sample in zip(rows, samples, strict=True):
        is_coordinate = (row >= first_id) & (row < first_id + num_tokens)
        # Coordinate tokens stand in the ids in the order of the text; truncation drops the last, or the first.
        count = int(is_coordinate.sum())
        kept = sample.offsets[-count:] if truncation_side == "left" else sample.offsets[:count]
        values = np.zeros(len(row), dtype=np.float32)
        values[is_coordinate] = kept if count else 0
        placed.append(values)
    return placed


def _ends_in_open_turn(text: str) -> bool:
    """Return whether a text ends inside a turn of the assistant, for the model to go on."""
    turns = list(_ASSISTANT_TURN.finditer(text))
    return bool(turns) and not turns[-1]["end"]


__all__ = [
    "PromptWriter",
    "WrittenSample",
    "check_encodable",
    "check_lengths",
    "check_media_tokens",
    "choose_padding",
    "place_offsets",
]
