"""Who answers the page: one model for all visitors, one question at a time, a clip that was read stays read."""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..inference import GroundingSession, SpatialTemporalGroundingPipeline
from ..inference.options import DEFAULT_TASKS, check_questions
from ..inference.token_progress import TokenProgress
from ..processing import (
    GroundingResult,
    InputError,
    MediaError,
    Task,
    get_task,
    guess_media_type,
    open_image,
    probe_video,
)
from ..utils.public_names import hide_folders

logger = logging.getLogger(__name__)

_KEPT_SESSIONS = 2  # each holds the cache of a clip


@dataclass(frozen=True)
class PageLimits:
    """
    What a visitor may ask for.

    Args:
        max_megabytes (`int`, *optional*, defaults to 200): Largest upload.
        max_seconds (`float`, *optional*, defaults to 600): Longest clip.
        max_queries (`int`, *optional*, defaults to 8): Most questions at once.
        max_waiting (`int`, *optional*, defaults to 20): Most requests in the queue; a further one is told so.
        max_frames (`int`, *optional*, defaults to 100): Most frames of a clip.
        max_new_tokens (`int`, *optional*, defaults to 1024): Longest answer.

    Example:

    ```python
    >>> PageLimits(max_seconds=60)
    ```
    """

    max_megabytes: int = 200
    max_seconds: float = 600
    max_queries: int = 8
    max_waiting: int = 20
    max_frames: int = 100
    max_new_tokens: int = 1024


class Cancelled(Exception):
    """The visitor asked to stop."""


def describe_error(error: Exception) -> str:
    """Return what a visitor is told, in one sentence without folders of this machine; the rest goes to the log."""
    if isinstance(error, InputError):
        return hide_folders(" ".join(str(error).split()))
    logger.error("an answer failed", exc_info=error)
    if isinstance(error, OSError) and error.strerror:
        return f"the answer could not be written on this machine ({error.strerror}): try again later."
    return f"the answer failed ({type(error).__name__}): try another clip or question, or again later."


class Answerer:
    """
    Answers the questions of the page.

    Args:
        pipeline (`SpatialTemporalGroundingPipeline`): Who answers.
        limits (`PageLimits`): What a visitor may ask for.
    """

    def __init__(self, pipeline: SpatialTemporalGroundingPipeline, limits: PageLimits):
        self.pipeline, self.limits = pipeline, limits
        self._sessions: OrderedDict[tuple, GroundingSession] = OrderedDict()
        self._lock = threading.Lock()  # gradio's queue asks one by one; other callers may not

    def check_media(self, path: str | None) -> str:
        """Return `"video"` or `"image"`; `InputError` for what is no clip or image, or too long."""
        if not path:
            raise InputError("there is no clip or image yet: choose one, upload one, or take a picture.")
        try:
            media_type = guess_media_type(path)
            if media_type == "image":
                open_image(str(path))
                return media_type
            video = probe_video(path)
        except MediaError as error:
            raise InputError(f"this is no clip or image that can be read: {error}") from error
        length = video.timeline.end_seconds - float(video.timeline.seconds[0])
        if length > self.limits.max_seconds:
            raise InputError(
                f"the clip lasts {length:.0f} s, and {self.limits.max_seconds:.0f} s are allowed here: cut it."
            )
        return media_type

    def find_task(self, task: str | None, media_type: str) -> Task:
        """Return a task by its name, or the usual one of a clip or an image."""
        return get_task(task or DEFAULT_TASKS[media_type])

    def ask(
        self,
        path: str,
        media_type: str,
        task: str | None,
        queries: Sequence[str],
        on_token: Callable[[int, int], None],
        **reading: Any,
    ) -> list[GroundingResult]:
        """
        Answer questions about one clip or image.

        Args:
            path (`str`): The clip or image.
            media_type (`str`): What `check_media` said.
            task (`str`, *optional*): One of `TASKS`; the usual one of a clip or image where it is left out.
            queries (`Sequence[str]`): The questions; one that is empty for a task without any.
            on_token (`Callable[[int, int], None]`):
                Called with the number of the question and its tokens so far; `Cancelled` raised in it ends the work.
            reading: What else the question needs and how the clip is read, as for the pipeline.

        Returns:
            `list[GroundingResult]`: An answer for each question.

        Raises:
            `InputError`: For a question that cannot be asked.
        """
        if len(queries) > self.limits.max_queries:
            raise InputError(
                f"{len(queries)} questions are asked, and {self.limits.max_queries} allowed at once: ask fewer."
            )
        chosen = self.find_task(task, media_type)
        task = chosen.name
        asked = [query or None for query in queries] if "query" in chosen.needs else [None]
        reading = {name: value for name, value in reading.items() if value is not None}
        about = {name: reading.pop(name) for name in ("span", "box", "start_seconds") if name in reading}
        check_questions(path, asked, media_type, task=task, **about, **reading)
        progress = [TokenProgress(lambda new, total, number=n: on_token(number, total)) for n in range(len(asked))]
        with self._lock:
            session = self._get_session(path, media_type, reading)
            return [
                session.ask(
                    task,
                    query=query,
                    **about,
                    max_new_tokens=self.limits.max_new_tokens,
                    generate={"streamer": streamer},
                )
                for query, streamer in zip(asked, progress, strict=True)
            ]

    def _get_session(self, path: str, media_type: str, reading: dict[str, Any]) -> GroundingSession:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        # By its name as well: an answer names its clip, and a visitor's name is nobody else's business.
        key = (digest.hexdigest(), Path(path).name, tuple(sorted(reading.items())))
        if key not in self._sessions:
            model, processor = self.pipeline.model, self.pipeline.processor
            self._sessions[key] = GroundingSession(model, processor, **{media_type: path}, **reading)
            while len(self._sessions) > _KEPT_SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(key)
        return self._sessions[key]
