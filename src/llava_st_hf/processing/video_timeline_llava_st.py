"""The timeline of a video file: the one clock of everything that reads, samples or draws its frames.

A pass over the packets, without decoding, says where every frame and every key frame is; what a header says of that is
never trusted. Broken packets are passed over.
"""

from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from typing import Any

import numpy as np

from .media_llava_st import EmptyMediaError
from .video_damage_llava_st import find_avi_slots
from .video_file_llava_st import CONTAINER_OF_SLOTS, VideoFile

try:
    import av
except ImportError:  # the remote-code check of transformers passes over imports inside try
    av = None

# From this many frames on, the container's own index replaces the pass over the packets where it is provably regular.
MIN_FRAMES_FOR_INDEX = 4096
# Containers that give no presentation time, or not all of whose files do: FFmpeg guesses it, wrongly where frames are
# stored out of order.
CONTAINERS_WITHOUT_PTS = ("avi", "vob", "rm", "mxf")
# Containers whose header may state when they end, where others state how long they last.
CONTAINERS_WITH_END = ("matroska,webm", "flv", "asf")
# What writers put for a length that they do not know yet, and for ever where they write into a pipe.
UNKNOWN_LENGTHS = {2**30, 2**31 - 1, 2**32 - 1}
# Streams without a container: they hold no times, and the rate that FFmpeg gives them is often its own default.
BARE_STREAMS = ("h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu")
# Frames a second of a stream that does not say its own.
GUESSED_FPS = 25
# Packets after which a bare stream has named its rate, if it ever does.
MAX_PACKETS_TO_RATE = 64
# Containers whose clock has 33 bits. FFmpeg takes one that falls back by more than a minute for one that ran over, and
# counts on: half of the range of the clock, thirteen hours, is no gap of a recording.
CONTAINERS_OF_CLOCK = ("mpegts", "mpeg")
CLOCK_TICKS = 2**33
AV_INDEX_DISCARD_FRAME = 2


@dataclass(frozen=True)
class Timeline:
    """When each frame of a file is, in presentation order."""

    stamps: np.ndarray  # time stamp (pts) of each frame, or its number when `by_order`; int64, ascending
    seconds: np.ndarray  # time of each frame; float64, ascending
    fps: float  # average number of frames a second
    time_base: Fraction  # unit in seconds of the stream's own stamps
    stated_end_seconds: float  # where the file says that it ends; 0 where it does not say
    key_stamps: np.ndarray | None = None  # stamps that decoding can start at
    by_order: bool = False  # whether frames are known by their number only
    grid_step: int | None = None  # distance of the stamps, when they were inferred from the container's index
    faults: tuple[str, ...] = ()  # what is missing of the file
    notes: tuple[str, ...] = ()  # how its times were counted, and what is not read

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def frame_duration(self) -> float:
        """Length in seconds of an average frame."""
        return 1 / self.fps if self.fps > 0 else 0.0

    @property
    def duration_seconds(self) -> float:
        """From the first frame's time to the end of the last frame."""
        return float(self.seconds[-1] - self.seconds[0]) + self.frame_duration

    @property
    def end_seconds(self) -> float:
        """End of the file: of its last frame, or where it says that it ends, whichever is later."""
        return max(self.stated_end_seconds, float(self.seconds[-1]) + self.frame_duration)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file, told from the values that this timeline gives out."""
        stated, end = self.stated_end_seconds, float(self.seconds[-1]) + self.frame_duration
        if self.faults or stated - end <= max(0.25, 0.1 * stated):
            return self.faults + self.notes
        return (f"its pictures end at {end:.3f} s, though the file says that it lasts {stated:.3f} s", *self.notes)

    def index_of(self, stamp: int) -> int:
        """Return the presentation index of the frame with this stamp, or of the one nearest to it."""
        right = int(np.searchsorted(self.stamps, stamp))
        candidates = [index for index in (right - 1, right) if 0 <= index < len(self.stamps)]
        return min(candidates, key=lambda index: abs(int(self.stamps[index]) - stamp))


def read_timeline(file: VideoFile, use_index: bool = True) -> Timeline:
    """
    Find when each frame of a file is, without decoding it where its packets tell.

    Args:
        file (`VideoFile`): A file that was just opened.
        use_index (`bool`, *optional*, defaults to `True`):
            Whether the index of a long file of constant rate is believed; what decodes its frames then checks it.

    Returns:
        `Timeline`: Of at least one frame.

    Raises:
        `EmptyMediaError`: There is no frame.
    """
    timeline = _timeline_from_index(file) if use_index else None
    timeline = timeline or _timeline_from_packets(file)
    if timeline is None:
        file.reopen()
        timeline = _timeline_by_decoding(file)
    if not len(timeline):
        raise EmptyMediaError(
            f"{file.name}: there is no frame in its video stream; copy, download or convert it again."
        )
    return timeline


def _timeline_from_packets(file: VideoFile) -> Timeline | None:
    """Read the stamps of all packets, or return None where they do not tell when frames are shown."""
    container, stream = file.container, file.stream
    is_guessed = stream.codec_context.has_b_frames and container.format.name in CONTAINERS_WITHOUT_PTS
    if is_guessed or container.format.name in BARE_STREAMS:
        return None
    shown, keys, packets, num_packets, faults, has_all_stamps, last_dts = [], [], [], 0, [], True, None
    num_corrupt, num_doubtful, last_step = 0, 0, 0
    try:
        for packet in file.read_packets(stream):
            num_packets += 1
            file.check_num_frames(num_packets)
            if packet.dts is not None:
                step = 0 if last_dts is None else packet.dts - last_dts
                if step < 0 or (step > CLOCK_TICKS // 2 and container.format.name in CONTAINERS_OF_CLOCK):
                    return None  # the clock starts again: sorted by their stamps, the parts would be mixed
                # Where recordings are joined, one of the last frames before a key frame is flagged, and lacks nothing.
                if num_doubtful and packet.is_keyframe and step <= 2 * last_step:
                    num_doubtful = 0
                num_corrupt += num_doubtful == 1
                num_doubtful = 2 if packet.is_corrupt else max(num_doubtful - 1, 0)
                last_dts, last_step = packet.dts, step
            if packet.pts is None:
                has_all_stamps = False
                continue
            if packet.is_keyframe:
                keys.append(packet.pts)  # also of a packet that an edit list hides: decoding can start there
            if not packet.is_discard:
                shown.append(packet.pts)
                packets.append((packet.dts, packet.pos, packet.size))
    except av.error.FFmpegError as error:
        faults.append(f"the file breaks off after {num_packets} video packets ({error.strerror})")
    stamps = np.unique(np.asarray(shown, dtype=np.int64))
    if not has_all_stamps or len(stamps) != len(shown):
        return None
    num_stated = len(stream.index_entries) if _is_indexed_in_header(container) else 0
    if num_stated > num_packets:
        faults.append(f"the file is cut short: it lists {num_stated} video packets and holds {num_packets}")
    num_corrupt += num_doubtful > 0
    if num_corrupt:
        faults.append(f"{num_corrupt} video packets lack a part; frames from there to the next key frame may be wrong")
    values = {"key_stamps": np.unique(np.asarray(keys, dtype=np.int64)), "faults": tuple(faults)}
    if container.format.name == CONTAINER_OF_SLOTS:
        values.update(_find_slots(file, packets))
    return _make_timeline(file, stamps, **values)


def _find_slots(file: VideoFile, packets: list[tuple[int | None, int, int]]) -> dict[str, Any]:
    """Return when the packets of an AVI are, which have a time to decode them, a place and a size, as far as known."""
    slots = find_avi_slots(file.source, file.stream.index, [packet[1:] for packet in packets])
    if not slots:
        times = [packet[0] for packet in packets]
        if None in times or (np.diff(times) <= 0).any():
            return {}
        return {"seconds": _convert_to_seconds(file, np.asarray(times, dtype=np.int64))}
    return {
        "seconds": _convert_to_seconds(file, np.asarray(slots, dtype=np.int64)),
        "faults": (f"it lists {slots[-1] + 1} frames up to its last, and holds {len(packets)} of them",),
        # A seek counts the missing frames, and a reading from the start does not.
        "key_stamps": np.empty(0, dtype=np.int64),
    }


def _timeline_from_index(file: VideoFile) -> Timeline | None:
    """Infer the frames of a long mp4 from its index, when that is whole and of constant frame rate."""
    container, stream = file.container, file.stream
    if not _is_indexed_in_header(container) or len(stream.index_entries) < MIN_FRAMES_FOR_INDEX:
        return None
    entries = ((entry.timestamp, entry.flags, entry.pos + entry.size) for entry in stream.index_entries)
    rows = np.fromiter(chain.from_iterable(entries), dtype=np.int64).reshape(-1, 3)
    steps = np.diff(rows[:, 0])
    step = int(steps[0])
    if step <= 0 or (steps != step).any() or (rows[:, 1] & AV_INDEX_DISCARD_FRAME).any():
        return None
    if rows[:, 2].max() > container.size:
        return None  # cut short: the pass over the packets finds out where
    # The index holds decoding times; the frames are shown on the same grid, shifted by the delay of the B-frames.
    head = list(islice(file.read_packets(stream), 64))
    if not head or any(packet.pts is None for packet in head):
        file.reopen()
        return None
    stamps = min(packet.pts for packet in head) + step * np.arange(len(rows), dtype=np.int64)
    is_key = (rows[:, 1] & 1).astype(bool)
    return _make_timeline(file, stamps, key_stamps=rows[is_key, 0] + (head[0].pts - rows[0, 0]), grid_step=step)


def _timeline_by_decoding(file: VideoFile) -> Timeline:
    """Count the frames by decoding them all: for files whose packets do not tell when each frame is shown."""
    is_bare = file.container.format.name in BARE_STREAMS
    named = _find_rate_in_stream(file) if is_bare else file.stream.average_rate
    rate = float(named or GUESSED_FPS)
    manner = f"they are counted by frame number at {rate:g} frames a second" + ("" if named else ", which is a guess")
    stamps = []
    for frame in file.decode_all():
        stamps.append(frame.pts if frame.pts is not None else frame.dts)
        file.check_num_frames(len(stamps))
    numbers = np.arange(len(stamps))
    values = {"seconds": numbers / rate, "fps": rate, "by_order": True}
    if is_bare:
        source = ", which its stream names" if named else ""
        return _make_timeline(file, numbers, notes=(f"it holds no times; {manner}{source}",), **values)
    timed = np.array([number for number in numbers if stamps[number] is not None], dtype=np.int64)
    times = np.array([stamps[number] for number in timed], dtype=np.int64)
    has_all, has_one_clock, steps = len(times) == len(stamps), True, np.diff(times)
    if file.container.format.name in CONTAINERS_OF_CLOCK and (np.abs(steps) > CLOCK_TICKS // 2).any():
        jumps = (steps > CLOCK_TICKS // 2).astype(np.int64) - (steps < -CLOCK_TICKS // 2)
        times, has_one_clock = times - CLOCK_TICKS * np.append(0, np.cumsum(jumps)), False
        steps = np.diff(times)
    is_guessed = file.container.format.name in CONTAINERS_WITHOUT_PTS
    if is_guessed and (file.container.format.name == CONTAINER_OF_SLOTS or (steps <= 0).any()):
        file.reopen()
        packets = [(packet.dts, packet.pos, packet.size) for packet in file.demux()]
        slots = _find_slots(file, packets) if len(packets) == len(stamps) else {}
        if slots:
            del values["fps"]
            return _make_timeline(file, numbers, **{**values, **slots})
    if has_all and (steps > 0).all():
        values["seconds"] = _convert_to_seconds(file, times)
        return _make_timeline(file, numbers, **values)
    if is_guessed:  # one rate and no times is what these are made of
        return _make_timeline(file, numbers, notes=() if named else (f"it holds no times; {manner}",), **values)
    if (steps < 0).any():
        decoded = np.array([dts for dts in _read_dts(file) if dts is not None])
        ordered = np.unique(times)
        if has_all and has_one_clock and len(ordered) == len(times) and (np.diff(decoded) >= 0).all():
            # One clock: of a damaged file frames come too early.
            return _make_timeline(file, ordered, key_stamps=np.empty(0, dtype=np.int64))
        is_kept = _find_rising(times)
        reason = "some of its frames have a false time stamp"
        if not _are_alone(~is_kept):
            # What the header says of the end is a time of only one of the clocks.
            values["stated_end_seconds"] = 0.0
            reason = f"its time stamps start again at frame {timed[np.argmax(steps < 0) + 1]}"
            is_kept[:] = False
    else:
        reason = f"some of its frames have {'the same time stamp' if has_all else 'no time'}"
        is_kept = np.append(True, steps > 0)[: len(times)]
    if is_kept.sum() > 1:
        del values["fps"]
        values["seconds"] = _convert_to_seconds(file, _fill_in(numbers, timed[is_kept], times[is_kept]))
        manner = "they are put between their neighbours"
    return _make_timeline(file, numbers, notes=(f"{reason}; {manner}",), **values)


def _find_rising(times: np.ndarray) -> np.ndarray:
    """Return which of some times belong to the longest part of them that rises."""
    ends: list[int] = []  # for each length, the place of the lowest time that a rising part of it ends with
    before = np.full(len(times), -1)
    for place, time in enumerate(times.tolist()):
        length = bisect_left(ends, time, key=times.__getitem__)
        before[place] = ends[length - 1] if length else -1
        ends[length : length + 1] = [place]
    is_rising, place = np.zeros(len(times), dtype=bool), ends[-1]
    while place >= 0:
        is_rising[place], place = True, before[place]
    return is_rising


def _are_alone(is_false: np.ndarray) -> bool:
    """Return whether the frames with a false time are few, and each between two with a true one."""
    places = np.flatnonzero(is_false)
    is_inside = not (is_false[0] or is_false[-1])
    return is_inside and len(places) <= len(is_false) // 10 and bool((np.diff(places) > 1).all())


def _fill_in(numbers: np.ndarray, timed: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the time of each frame, evenly spaced between and beside some of them with rising times."""
    step = (times[-1] - times[0]) / (timed[-1] - timed[0])
    first, last = times[0] - step * timed[0], times[-1] + step * (len(numbers) - timed[-1])
    return np.interp(numbers, [0, *timed, len(numbers)], [first, *times, last])


def _read_dts(file: VideoFile) -> list[int | None]:
    """Return when the packets of a file are decoded; it is read anew."""
    file.reopen()
    return [packet.dts for packet in file.demux()]


def _find_rate_in_stream(file: VideoFile) -> Fraction | None:
    """Return the frames a second that a bare stream names in its own headers, or None; the file is read anew."""
    # A decoder that knows nothing but the packets: that of the file was told FFmpeg's default.
    decoder = av.CodecContext.create(file.stream.codec_context.name, "r")
    decoder.thread_count = 1
    file.reopen()
    try:
        for packet in islice(file.read_packets(file.stream), MAX_PACKETS_TO_RATE):
            with suppress(av.error.FFmpegError):
                decoder.decode(packet)
            if decoder.framerate:
                return decoder.framerate
    except av.error.FFmpegError:
        pass  # a file that breaks off so early is reported when it is decoded
    return None


def _is_indexed_in_header(container: "av.container.InputContainer") -> bool:
    # Of a fragmented mp4 and of the other containers the index grows as packets are read.
    return "mov" in container.format.name.split(",")


def _convert_to_seconds(file: VideoFile, stamps: np.ndarray) -> np.ndarray:
    # One rounding only, so that the seconds are those of pts * time_base.
    return stamps * file.stream.time_base.numerator / file.stream.time_base.denominator


def _make_timeline(file: VideoFile, stamps: np.ndarray, **values: Any) -> Timeline:
    """Make the timeline of frames that have stamps; `values` of it are taken as they are, the others follow."""
    container, stream = file.container, file.stream
    seconds = values.get("seconds", _convert_to_seconds(file, stamps))
    if len(seconds) > 1 and seconds[-1] > seconds[0]:
        fps = (len(seconds) - 1) / float(seconds[-1] - seconds[0])
    else:
        fps = float(stream.average_rate or 0)
    starts_at, length = ((value or 0) / av.time_base for value in (container.start_time, container.duration))
    # Of some containers that is the time of the end, and not a length, as most that write them have it.
    is_end = container.format.name in CONTAINERS_WITH_END and len(seconds) and length >= seconds[-1]
    stated_end = length + (0.0 if is_end else starts_at) if length else 0.0
    # A header may be longer or shorter than its tracks: the longest of them is what players show.
    for track in (stream, *container.streams.audio):
        if track.duration and track.time_base:
            start = 0 if is_end else track.start_time or 0
            stated_end = max(stated_end, float((start + track.duration) * track.time_base))
    has_length = not {stream.frames, stream.duration} & UNKNOWN_LENGTHS
    if not has_length:
        stated_end = 0.0  # what FFmpeg says is a guess from the size of the file, or what stands for none
    unit = Fraction(stream.time_base)  # of which PyAV 19 has a type of its own
    followed = {"seconds": seconds, "fps": fps, "time_base": unit, "stated_end_seconds": stated_end}
    if has_length and container.format.name == CONTAINER_OF_SLOTS and file.own_notes and stream.average_rate:
        num_held = round(float(seconds[-1] * stream.average_rate)) + 1 if len(seconds) else 0
        if stream.frames - num_held > 2 + stream.frames // 100:  # headers are not always exact
            fault = f"a part of the file is missing: it lists {stream.frames} frames and holds {num_held}, so that "
            values["faults"] = (*values.get("faults", ()), f"{fault}those behind the gap may be later")
    notes = (*values.pop("notes", ()), *file.notes)
    return Timeline(stamps, **{**followed, **values}, notes=notes)


__all__ = ["Timeline", "read_timeline"]
