"""The folder of a source's media: what a record names is found there, and no path leads out of it."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..processing.media_llava_st import format_count
from ..utils.regular_files import is_name
from .samples import Media
from .skips import make_error, make_fault

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?://|[^\\/])")  # http://..., data:..., not C:\
VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class MediaFolder:
    """The folder in which the media of a source lie; without a `path`, records must bring their media as bytes."""

    def __init__(self, path: str | Path | None):
        self.path = None if path is None else Path(os.path.realpath(path))

    def resolve(self, name: Any, field: str = "media") -> str:
        """
        Return the absolute path of a file or folder that a record names, links followed.

        The name is relative to the folder, or absolute and inside it. One that leaves the folder, also through a link,
        is an address, does not exist or is no text raises `RecordError`.
        """
        if not isinstance(name, str) or not name.strip() or not is_name(name) or len(name) > 4096:
            raise make_error(field, name, "give the path of a file")
        said = f"is {name[:200]!r}"
        if _ADDRESS.match(name):
            raise make_fault(field, said, "download it and give the path of the file", "network_media")
        if self.path is None:
            raise make_fault(field, f"{said}, but no folder of media is set", "give data_folder", "outside_root")
        try:
            # Windows writes paths with another stroke.
            place = name if (self.path / name).exists() else name.replace("\\", "/")
            path = Path(os.path.realpath(self.path / place))
            exists = path.exists()
        except OSError as error:  # names that are too long for the file system
            raise make_fault(field, said, str(error)) from error
        if not path.is_relative_to(self.path):
            said += f", which lies outside of {self.path}"
            raise make_fault(field, said, "media are read from there only", "outside_root")
        if not exists:
            said += f", which does not exist in {self.path}"
            raise make_fault(field, said, "fix the path, or the folder of the media (data_folder)", "missing_media")
        return str(path)

    def open_media(self, name: Any, media_type: str, field: str = "media") -> tuple[Media, ...]:
        """Return the media that one name stands for: a file, or the pictures of a folder that is a clip's."""
        path = self.resolve(name, field)
        if not os.path.isdir(path):
            return (Media(path=path),)
        frames = sorted(
            (entry.name for entry in os.scandir(path) if entry.name.lower().endswith(_PICTURE_ENDINGS)),
            key=_natural_key,
        )
        if media_type != "video" or not frames:
            raise make_fault(
                field,
                f"is the folder {str(name)[:200]!r} with {format_count(len(frames), 'picture')}",
                "give a file, or for a video a folder with its frames as pictures",
                "empty_media" if media_type == "video" else "invalid_field",
            )
        return tuple(Media(path=self.resolve(os.path.join(path, frame), field)) for frame in frames)

    def find_media(self, names: Sequence[str], media_type: str, field: str = "media") -> tuple[Media, ...]:
        """
        Return the media under the first of some names that exists, in the folder or in a folder right below it.

        When none exists, the `RecordError` is about the first name.
        """
        for place in self._list_places():
            for name in names:
                if os.path.lexists(place / name):
                    return self.open_media(str(place / name), media_type, field)
        return self.open_media(names[0], media_type, field)

    def find_video(self, name: str, field: str = "video", places: Sequence[str] = ()) -> tuple[Media, ...]:
        """Return the video of a name, with the ending that it has or another; before that, what lies at `places`."""
        stem, ending = os.path.splitext(name)
        stems = [name, stem] if ending.lower() in VIDEO_ENDINGS else [name]
        names = [name, *(one + other for one in stems for other in VIDEO_ENDINGS)]
        return self.find_media([*places, *names], "video", field)

    def _list_places(self) -> Iterator[Path]:
        """List the folder, and the folders right below it where nothing was found in it."""
        if self.path is not None and self.path.is_dir():
            yield self.path
            yield from sorted(Path(entry) for entry in os.scandir(self.path) if entry.is_dir())


def _natural_key(name: str) -> list[Any]:
    """Sort frame2 before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
