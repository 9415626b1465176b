"""From records to a batch: opens the media, writes the prompt, sets the labels; what fails is skipped and reported."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from ..processing import TASKS, InputError, LlavaSTProcessor, PromptLengthError
from ..processing.media_llava_st import format_count
from ..processing.notation_llava_st import NOTATION
from ..processing.prompt_expansion_llava_st import RAW_FAST_TOKENS
from ..processing.video_requests_llava_st import list_times
from .annotation_checks import check_count
from .media_loading import MAX_FILE_BYTES, MAX_PIXELS, load_media
from .samples import Sample
from .skips import RecordError, SkippedRecord, SkipReport, make_fault

IGNORED = -100


@dataclass
class LlavaSTDataCollator:
    """
    Make a batch for training of records; media are opened and decoded here, in the worker of the `DataLoader`.

    A record that cannot be used goes to the report, the others make the batch: nothing is put in its place. Where none
    is left, the batch is one sample of text without a label, whose loss is 0, so that the processes of a run stay in
    step. A video file is decoded by a single thread inside a worker.

    Args:
        processor (`LlavaSTProcessor`): Prepares text and media.
        skip_report (`SkipReport`, *optional*):
            Takes note of the records that were skipped, and stops the run where they are too many. Without one the
            records are noted in the log, and more than 5 % stop the run.
        max_length (`int`, *optional*): Most tokens of a sample; never more than the tokenizer's `model_max_length`.
        truncation (`bool`, *optional*, defaults to `False`):
            Whether a sample that is longer is cut at its end instead of skipped. The cut stays behind the last medium,
            outside of spans and boxes, and leaves at least one label: else the sample is skipped.
        num_frames (`int`, *optional*): Frames to sample of each clip; what the processor samples when left out.
        video_fps (`float`, *optional*): Frames a second of clips that are kept as frames, where a record does not say.
        max_pixels (`int`, *optional*, defaults to 134,217,728): See `load_media`.
        max_file_bytes (`int`, *optional*, defaults to 4,294,967,296): See `load_media`.
        return_task_ids (`bool`, *optional*, defaults to `False`): Whether a batch says which task each sample has.

    Example:

    ```python
    >>> collator = LlavaSTDataCollator(processor, SkipReport("skipped.jsonl"), max_length=4096)
    >>> loader = DataLoader(mixture, batch_size=4, collate_fn=collator, num_workers=8)
    >>> loss = model(**next(iter(loader))).loss
    ```
    """

    processor: LlavaSTProcessor
    skip_report: SkipReport | None = None
    max_length: int | None = None
    truncation: bool = False
    num_frames: int | None = None
    video_fps: float | None = None
    max_pixels: int = MAX_PIXELS
    max_file_bytes: int = MAX_FILE_BYTES
    return_task_ids: bool = False

    def __post_init__(self):
        for name in ("max_length", "num_frames", "max_pixels", "max_file_bytes"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.video_fps is not None:
            list_times("video_fps", self.video_fps, 1)
        if self.truncation and self.processor.tokenizer.truncation_side != "right":
            raise InputError(
                f"the tokenizer's truncation_side is {self.processor.tokenizer.truncation_side!r}: samples are cut at "
                "their end, set it to 'right'."
            )
        if self.processor.tokenizer.pad_token_id is None:
            raise InputError("the tokenizer has no pad_token: set it, samples are padded to one length with it.")
        if not isinstance(self.skip_report, (SkipReport, type(None))):
            raise InputError(
                f"skip_report is {self.skip_report!r}: give a SkipReport, for example SkipReport('skipped.jsonl')."
            )
        if self.skip_report is None:
            self.skip_report = SkipReport()

    def __call__(self, examples: Sequence[Sample | SkippedRecord | Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Make a batch.

        Args:
            examples (`Sequence[Sample | SkippedRecord | Mapping]`):
                Records, what readers noted of those that they skipped, or rows in the canonical form
                (`Sample.from_row`).

        Returns:
            `dict[str, torch.Tensor]`: Padded on the right, for n samples that were not skipped:

            - `input_ids`, `attention_mask` (int64), `coordinate_offsets` (float32): (n, tokens);
            - `labels` (int64): (n, tokens), the assistant's words and the end of its turns, -100 elsewhere;
            - `pixel_values` (float32), where there are images: (images, 3, height, width);
            - `pixel_values_videos` (float32), where there are clips: (clips, frames, 3, height, width), and
              `video_num_frames` (int64): (clips,), where they differ in length;
            - `task_ids` (int64), with `return_task_ids`: (n,), places in `TASKS`, -1 where there is no sample.

        Raises:
            `TooManySkipsError`: See `SkipReport.add`.
            `InputError`: For an example of another kind.
        """
        encoded, task_ids = [], []
        for example in examples:
            record = self._read(example)
            if isinstance(record, Sample):
                try:
                    encoded.append(self._encode(record))
                    task_ids.append(list(TASKS).index(record.task))
                    self.skip_report.use(record.id, record.source, record.notes)
                    continue
                except RecordError as error:
                    record = SkippedRecord.from_error(record.id, record.source, error)
            self.skip_report.note(record)
        batch = self._stack(encoded or [self._make_empty()])
        if self.return_task_ids:
            batch["task_ids"] = torch.tensor(task_ids or [-1])
        return batch

    def _read(self, example: Any) -> Sample | SkippedRecord:
        if isinstance(example, (Sample, SkippedRecord)):
            return example
        if not isinstance(example, Mapping):
            raise InputError(f"an example is a {type(example).__name__}: give a Sample, a SkippedRecord or a row.")
        try:
            return Sample.from_row(example)
        except RecordError as error:
            names = [example.get(name) for name in ("id", "source")]
            names = [name[:1000] if isinstance(name, str) else "unknown" for name in names]
            return SkippedRecord.from_error(*names, error)

    def _encode(self, sample: Sample) -> dict[str, torch.Tensor]:
        """Turn one record into tensors, those of tokens of shape (tokens,)."""
        self._check_media_tokens(sample)
        if not sample.has_times:
            sample = replace(sample, video_fps=self.video_fps)
        media = load_media(
            sample,
            self.processor.video_processor,
            num_frames=self.num_frames,
            max_frames=self._max_frames,
            max_pixels=self.max_pixels,
            max_file_bytes=self.max_file_bytes,
        )
        options = {"do_sample_frames": False, "video_metadata": media.video_metadata or None}
        if self.truncation:
            options |= {"truncation": True, "max_length": self._limit + 1}  # one more tells that there is more
        try:
            inputs = self.processor.apply_chat_template(
                sample.to_messages(media.blocks),
                tokenize=True,
                return_dict=True,
                return_tensors="np",  # transformers goes through the offsets one by one, which tensors are slow at
                return_assistant_tokens_mask=True,
                processor_kwargs=options,
            )
        except PromptLengthError as error:
            raise RecordError("too_long", "messages", str(error)) from error
        except InputError as error:
            raise RecordError("invalid_field", "messages", f"messages: {error}") from error

        inputs = {name: torch.from_numpy(values) for name, values in inputs.items()}
        input_ids, is_learnt = inputs["input_ids"][0], inputs["assistant_masks"][0].bool()
        is_media = torch.isin(input_ids, self._media_token_ids)
        labels = input_ids.where(is_learnt & ~is_media, IGNORED)
        end = len(input_ids) if len(input_ids) <= self._limit else self._find_cut(input_ids, labels, is_media)
        pixels = {name: inputs[name] for name in ("pixel_values", "pixel_values_videos") if name in inputs}
        offsets = inputs["coordinate_offsets"][0]
        return {"input_ids": input_ids[:end], "labels": labels[:end], "coordinate_offsets": offsets[:end], **pixels}

    def _check_media_tokens(self, sample: Sample) -> None:
        """Skip a record whose media alone are too long, before they are decoded."""
        num_tokens = 0
        if sample.media_type == "image":
            num_tokens = len(sample.media) * self.processor.media_token_counter.count_image()
        elif sample.media_type == "video":
            num_frames = self.num_frames or self.processor.video_processor.num_frames or 1
            num_tokens = sum(self.processor.media_token_counter.count_video(num_frames))
        if num_tokens > self._limit:
            said = f"take {format_count(num_tokens, 'token')}, but a sample may have {self._limit:,}"
            raise make_fault(
                "media",
                f"{said} (max_length, or the tokenizer's model_max_length)",
                "give fewer images or frames (num_frames), or raise max_length",
                "too_long",
            )

    def _find_cut(self, input_ids: torch.Tensor, labels: torch.Tensor, is_media: torch.Tensor) -> int:
        """Return how many tokens of a sample that is too long are kept."""
        num_media, end = int(is_media.sum()), self._limit
        first = int(is_media.nonzero()[-1]) + 1 if num_media else 0
        if self.truncation and end >= first:
            pieces = self.processor.tokenizer.batch_decode(input_ids[first:end, None])
            # A group that the cut would fall into is left out as a whole.
            if (group := NOTATION.find_open_group("".join(pieces))) is not None:
                ends = list(itertools.accumulate(map(len, pieces)))
                end = first + bisect.bisect_right(ends, group)
            if (labels[:end] != IGNORED).any():
                return end
        more = "at least " if self.truncation else ""
        why = ", and cutting the text behind the media to it leaves no label" if self.truncation else ""
        raise RecordError(
            "too_long",
            "messages",
            f"the record has {more}{len(input_ids):,} tokens ({num_media:,} of media, {more}"
            f"{len(input_ids) - num_media:,} of text), but max_length is {self._limit:,}{why}: shorten it, give fewer "
            "images or frames (num_frames), or raise max_length.",
        )

    def _make_empty(self) -> dict[str, torch.Tensor]:
        """Make a sample of text that supervises nothing."""
        input_ids = torch.tensor([self.processor.tokenizer.eos_token_id])
        labels = torch.full_like(input_ids, IGNORED)
        return {"input_ids": input_ids, "labels": labels, "coordinate_offsets": torch.zeros(1)}

    def _stack(self, encoded: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Pad samples on the right to one length, and put their media one behind the other."""
        fills = {"input_ids": self.processor.tokenizer.pad_token_id, "labels": IGNORED, "coordinate_offsets": 0.0}
        batch = {
            name: pad_sequence([row[name] for row in encoded], batch_first=True, padding_value=fill)
            for name, fill in fills.items()
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in encoded])
        batch["attention_mask"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        if images := [row["pixel_values"] for row in encoded if "pixel_values" in row]:
            batch["pixel_values"] = torch.cat(images)
        if clips := [clip for row in encoded for clip in row.get("pixel_values_videos", ())]:
            batch["pixel_values_videos"] = pad_sequence(clips, batch_first=True)
            num_frames = torch.tensor([len(clip) for clip in clips])
            if (num_frames != num_frames[0]).any():
                batch["video_num_frames"] = num_frames
        return batch

    @cached_property
    def _limit(self) -> int:
        """Most tokens of a sample."""
        limit = int(self.processor.tokenizer.model_max_length)
        return limit if self.max_length is None else min(self.max_length, limit)

    @cached_property
    def _media_token_ids(self) -> torch.Tensor:
        processor = self.processor
        raw = [] if processor.splice_fast_tokens else processor.tokenizer.convert_tokens_to_ids(list(RAW_FAST_TOKENS))
        return torch.tensor([processor.image_token_id, processor.video_token_id, *raw])

    @cached_property
    def _max_frames(self) -> int:
        """Most frames of a clip that fit into a sample."""
        return self.processor.media_token_counter.find_most_frames(self._limit)
