"""From a text with placeholders and coordinates to the text that the tokenizer gets, and back onto its ids.

A `MediaTokenCounter` knows how many tokens media take. A `PromptWriter` puts into one text the tokens of its media and
of its coordinates. What the text alone no longer says, a `WrittenSample` keeps: where each coordinate lies below its
bin, and how many tokens the media take. When it tokenizes them, it checks that all of it fits, and lays the offsets
beside the ids.
"""

import bisect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from .frame_sampling_llava_st import MAX_SAMPLED_FRAMES
from .image_loading_llava_st import count_per_sample, flatten_images, flatten_videos
from .media_llava_st import MediaInfo, PromptError, PromptLengthError, show
from .notation_llava_st import NOTATION, CoordinateVocabulary, Notation
from .prompt_coordinates_llava_st import check_groups, check_misspelled, compute_fraction

# Parity: tokens of the published vocabulary that take the place of what the published weights never saw embedded.
RAW_FAST_TOKENS = ("<vid_start>", "<vid_patch>", "<vid_end>")
RAW_WIDTH_TOKEN = "<WIDTH-INPUT>"

# transformers puts this mark before a control token that a user typed (`sanitize_control_tokens=True`).
_UNMARKED = "(?<!\U000f0000)"
_SURROGATE = re.compile("[\ud800-\udfff]")
_ASSISTANT_TURN = re.compile(
    rf"{_UNMARKED}<\|im_start\|>assistant\n(?P<answer>.*?)(?P<end>{_UNMARKED}<\|im_end\|>|\Z)", re.DOTALL
)


@dataclass(frozen=True)
class MediaTokenCounter:
    """
    Counts the tokens that media take in a prompt, which is what the model's packer makes of them.

    Example:

    ```python
    >>> counter = MediaTokenCounter(14, 3, 3, 5, image_size=(384, 384), video_size=(384, 384))
    >>> counter.count_image(), counter.count_video(100)
    (729, (900, 1620))
    ```
    """

    patch_size: int  # side of a patch in pixels
    spatial_stride: int  # patches per side of a slow token
    fast_spatial_stride: int  # slow cells per side of a fast token
    temporal_stride: int  # frames of a slow frame
    image_size: tuple[int, int] | None = None  # height and width in pixels that images are resized to
    video_size: tuple[int, int] | None = None  # the same of frames

    def count_image(self, size: tuple[int, int] | None = None) -> int:
        """Return the number of tokens of an image that was resized to a height and a width."""
        height, width = size or self.image_size
        return (height // self.patch_size) * (width // self.patch_size)

    def count_video(self, num_frames: int, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """Return the numbers of fast and of slow tokens of a clip of frames that were resized likewise."""
        slow_cells = fast_cells = 1
        for side in size or self.video_size:
            slow_side = math.ceil(side // self.patch_size / self.spatial_stride)
            slow_cells *= slow_side
            fast_cells *= math.ceil(slow_side / self.fast_spatial_stride)
        return num_frames * fast_cells, math.ceil(num_frames / self.temporal_stride) * slow_cells

    def find_most_frames(self, num_tokens: int) -> int:
        """Return how many frames a clip may have to take no more than so many tokens."""
        counts = range(1, MAX_SAMPLED_FRAMES + 1)
        return bisect.bisect_right(counts, num_tokens, key=lambda count: sum(self.count_video(count)))

    def count_asked(self, num_images: int, num_frames: Sequence[Any]) -> int:
        """Return how many tokens so many images and clips of so many frames take, as far as that is known already."""
        # What is not known, or no number of frames, counts as nothing here: the reader has its say on it.
        known = [int(count) for count in num_frames if isinstance(count, (int, float)) and 0 < count < 2**31]
        num_tokens = num_images * self.count_image() if self.image_size else 0
        return num_tokens + sum(sum(self.count_video(count)) for count in known if self.video_size)


_Replacement = tuple[int, int, str, str]  # start and end of what goes, "image", "video" or "coordinate", what comes


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

    Example:

    ```python
    >>> writer = PromptWriter(tokenizer, "<image>", "<video>", CoordinateVocabulary(), True, True)
    >>> writer.write("at <y=0.5>", iter(()), iter(())).text
    'at <y_49>'
    ```
    """

    tokenizer: PreTrainedTokenizerBase  # with the placeholders and the coordinate tokens
    image_token: str  # placeholder of an image
    video_token: str  # placeholder of a video
    vocabulary: CoordinateVocabulary  # the coordinate tokens and their ids
    splice_fast_tokens: bool  # whether the fast tokens of a video are placeholders too
    embed_width_inputs: bool  # whether `<x=..>` outside an answer becomes a coordinate token
    notation: Notation = NOTATION  # how coordinates are written

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
            required = [len(re.findall(_UNMARKED + re.escape(token), sample)) for sample in texts]
            given = count_per_sample(media, len(texts), flatten)
            where = "the prompt" if len(texts) == 1 else "all prompts together"
            if given is None:
                required, given = [sum(required)], [len(flatten(media))]
            for index, (num_required, num_given) in enumerate(zip(required, given, strict=True)):
                if num_required != num_given:
                    where = f"prompt {index}" if len(required) > 1 else where
                    raise PromptError(
                        f"{where} has {num_required} {token} placeholder{'s' * (num_required != 1)} but {num_given} "
                        f"{name}{'s' * (num_given != 1)} given: give one {name} for each, and do not type {token} "
                        "inside a question."
                    )

    def count_placeholders(self, text: str) -> tuple[int, int]:
        """Return how many images and how many videos a text has placeholders for."""
        tokens = (self.image_token, self.video_token)
        num_images, num_videos = (len(re.findall(_UNMARKED + re.escape(token), text)) for token in tokens)
        return num_images, num_videos

    def check_media_tokens(
        self, texts: Sequence[str], counter: MediaTokenCounter, num_frames: Any, text_kwargs: dict[str, Any]
    ) -> int:
        """
        Check, before any medium is read, that the context holds the tokens that media alone take.

        `num_frames` is how many frames of a clip are asked for, or a list with an entry for each clip. Returns how
        many tokens one text may have; media that take more raise `PromptLengthError`.
        """
        asked = iter(num_frames) if isinstance(num_frames, (list, tuple)) else repeat(num_frames)
        limit = self.tokenizer.model_max_length
        most = (text_kwargs.get("max_length") or limit) if _is_truncated(text_kwargs) else limit
        for index, (num_images, num_videos) in enumerate(map(self.count_placeholders, texts)):
            count = counter.count_asked(num_images, list(islice(asked, num_videos)))
            if count <= most:
                continue
            where = f"prompt {index}" if len(texts) > 1 else "the prompt"
            if _is_truncated(text_kwargs):
                raise _make_cut_error(where, count, most)
            raise PromptLengthError(
                f"{where} has {count} tokens for media alone, but the context (model_max_length) holds {limit}: give "
                "fewer frames (num_frames) or fewer media."
            )
        return most

    def write_video(self, num_fast: int, num_slow: int) -> str:
        """Return what the placeholder of a video becomes: its fast tokens, then its slow ones."""
        if self.splice_fast_tokens:
            return self.video_token * (num_fast + num_slow)
        # Parity: the reference overwrites its fast block when it splices the slow one (llava_arch.py:491-501), so
        # these positions keep the embeddings of the raw tokens; published weights expect it.
        start, patch, end = RAW_FAST_TOKENS
        fast = start + patch * (num_fast - 2) + end if num_fast > 1 else start
        return fast + self.video_token * num_slow

    def write(
        self,
        text: str,
        images: Iterator[tuple[str, MediaInfo]],
        videos: Iterator[tuple[str, MediaInfo]],
    ) -> WrittenSample:
        """Replace placeholders and coordinates of one text; takes its media from the front of the two iterators."""
        # What the assistant says is not the user's to fix.
        check_misspelled(_ASSISTANT_TURN.sub("\n", text), self.notation)
        media, media_starts, num_media_tokens, replacements = [], [], 0, []
        placeholders = f"(?P<image>{re.escape(self.image_token)})|(?P<video>{re.escape(self.video_token)})"
        for match in re.finditer(f"{_UNMARKED}(?:{placeholders})", text):
            expanded, medium = next(images if match.lastgroup == "image" else videos)
            media.append(medium)
            media_starts.append(match.start())
            num_media_tokens += expanded.count("<")
            replacements.append((*match.span(), match.lastgroup, expanded))
        tokens, offsets = self._write_coordinates(text, media, media_starts)
        pieces, described, position, length = [], [], 0, 0
        for start, end, kind, replacement in sorted(replacements + tokens):
            pieces += [text[position:start], replacement]
            length += start - position
            described.append(
                {
                    "type": kind,
                    "span": (start, end),
                    "new_span": (length, length + len(replacement)),
                    "text": text[start:end],
                    "replacement": replacement,
                }
            )
            length += len(replacement)
            position = end
        pieces.append(text[position:])
        return WrittenSample("".join(pieces), offsets, tuple(media), num_media_tokens, described)

    def _write_coordinates(
        self, text: str, media: list[MediaInfo], media_starts: list[int]
    ) -> tuple[list[_Replacement], np.ndarray]:
        """Return the token for each coordinate of a text, and the offsets of those that became coordinate tokens."""
        lexemes = self.notation.lex(text)
        coordinates = self.notation.list_coordinates(lexemes)
        fractions = {}
        for coordinate in coordinates:
            preceding = bisect.bisect_left(media_starts, coordinate.start)
            fractions[coordinate.start] = compute_fraction(
                coordinate, media, self.vocabulary, preceding, self.notation
            )
        answers = [match.span("answer") for match in _ASSISTANT_TURN.finditer(text)]
        asked = {
            place: fraction
            for place, fraction in fractions.items()
            if not any(start <= place < end for start, end in answers)
        }
        # What the assistant says is not the user's to fix: a reversed box of an earlier answer stays as it is.
        check_groups(text, lexemes, asked, self.notation)

        tokens, offsets = [], []
        for coordinate in coordinates:
            axis, value, unit, start, end = coordinate[:5]
            # k / (N - 1) times (N - 1) can miss k by a rounding error.
            bin_index, offset = (value, 0.0) if unit == "bin" else self.vocabulary.split(axis, fractions[start])
            token = self.vocabulary.token(axis, bin_index)
            if axis == "x" and unit != "bin" and not self.embed_width_inputs and start in asked:
                # Parity: the reference leaves width inputs raw (llava_arch.py:563); published weights expect it.
                token = RAW_WIDTH_TOKEN
            else:
                offsets.append(offset)
            tokens.append((start, end, "coordinate", token))
        return tokens, np.array(offsets, dtype=np.float32)

    def tokenize(self, samples: Sequence[WrittenSample], **text_kwargs) -> dict[str, Any]:
        """
        Tokenize written texts: what the tokenizer gives, and `coordinate_offsets`, 0 where no coordinate is.

        A text that is too long, or whose media truncation cut into, raises `PromptLengthError`.
        """
        # Not verbose: `_check_lengths` says that a text is too long, better than the tokenizer's warning would.
        inputs = dict(self.tokenizer([sample.text for sample in samples], **{"verbose": False, **text_kwargs}))
        rows = [np.asarray(row) for row in inputs["input_ids"]]
        masks = inputs.get("attention_mask", [np.ones(len(row)) for row in rows])
        self._check_lengths(rows, masks, samples, text_kwargs)
        offsets = [self._place_offsets(row, sample.offsets) for row, sample in zip(rows, samples, strict=True)]
        if text_kwargs.get("return_tensors") is None:
            offsets = [values.tolist() for values in offsets]
        inputs["coordinate_offsets"] = offsets
        return inputs

    def _check_lengths(
        self, rows: Sequence[np.ndarray], masks: Any, samples: Sequence[WrittenSample], text_kwargs: dict[str, Any]
    ) -> None:
        media_tokens = [self.image_token, self.video_token, *(() if self.splice_fast_tokens else RAW_FAST_TOKENS)]
        media_token_ids = self.tokenizer.convert_tokens_to_ids(media_tokens)
        truncation, limit = _is_truncated(text_kwargs), self.tokenizer.model_max_length
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

    def _place_offsets(self, row: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return an offset for each id of a row, `float32`."""
        is_coordinate = self.vocabulary.contains(row)
        # Coordinate tokens stand in the ids in the order of the text; truncation drops the last, or the first.
        count = int(is_coordinate.sum())
        kept = offsets[-count:] if self.tokenizer.truncation_side == "left" else offsets[:count]
        values = np.zeros(len(row), dtype=np.float32)
        values[is_coordinate] = kept if count else 0
        return values


def check_encodable(name: str, text: str) -> None:
    """Raise `PromptError` for a text with halves of surrogate pairs, as a shell's undecodable bytes become."""
    if match := _SURROGATE.search(text):
        raise PromptError(
            f"{name} holds {match.group()!r} at character {match.start()}, which is half a character or a byte that "
            "is not UTF-8: give it as UTF-8 text.",
            field=name,
        )


def check_query(query: str, tokenizer: PreTrainedTokenizerBase, media_tokens: Sequence[str]) -> None:
    """Raise `PromptError` where a query is no text, or holds a token that steers the model."""
    if not isinstance(query, str):
        raise PromptError(f"query is {show(query)}: give it as text.", field="query")
    check_encodable("query", query)
    _refuse_control_tokens("query", query, _list_control_tokens(tokenizer, media_tokens), "query")


def check_messages(
    conversations: Sequence[Any], tokenizer: PreTrainedTokenizerBase, media_tokens: Sequence[str]
) -> None:
    """
    Raise `PromptError` where a message of a chat holds a token that steers the model, which would end its turn.

    A placeholder of a medium may stand in content that is one text, not in a block of text: media have blocks.
    """
    for_blocks = _list_control_tokens(tokenizer, media_tokens)
    for_texts = [token for token in for_blocks if token not in media_tokens]
    for conversation in conversations:
        for number, message in enumerate(conversation):
            content = message.get("content")
            is_text = not isinstance(content, (list, tuple))
            blocks = [{"type": "text", "text": content}] if is_text else content
            # Joined as the template does: a token may be spread over blocks.
            texts = [block.get("text") if isinstance(block, Mapping) else block for block in blocks]
            text = "".join(text if isinstance(text, str) else "\n" for text in texts)
            _refuse_control_tokens(f"message {number}", text, for_texts if is_text else for_blocks)
            _refuse_control_tokens(f"the role of message {number}", str(message.get("role")), for_blocks)


def _list_control_tokens(tokenizer: PreTrainedTokenizerBase, media_tokens: Sequence[str]) -> list[str]:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted(special | {"<|im_start|>", "<|im_end|>", *media_tokens})


def _refuse_control_tokens(name: str, text: str, tokens: Sequence[str], field: str | None = None) -> None:
    for token in tokens:
        if token in text:
            raise PromptError(
                f"{name} holds the control token {token}: leave it out, media have arguments.", field=field
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


def _is_truncated(text_kwargs: dict[str, Any]) -> bool:
    return text_kwargs.get("truncation") not in (None, False, "do_not_truncate")


def _make_cut_error(where: str, num_media_tokens: int, max_length: int) -> PromptLengthError:
    return PromptLengthError(
        f"max_length is {max_length}, which cuts into the {num_media_tokens} tokens for media of {where}: raise "
        "max_length, give fewer frames (num_frames) or turn truncation off."
    )


def _ends_in_open_turn(text: str) -> bool:
    """Return whether a text ends inside a turn of the assistant, for the model to go on."""
    turns = list(_ASSISTANT_TURN.finditer(text))
    return bool(turns) and not turns[-1]["end"]


__all__ = [
    "RAW_FAST_TOKENS",
    "RAW_WIDTH_TOKEN",
    "MediaTokenCounter",
    "PromptWriter",
    "WrittenSample",
    "check_encodable",
    "check_messages",
    "check_query",
    "choose_padding",
]
