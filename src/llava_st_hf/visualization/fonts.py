"""A font for any script: Pillow's own, and those of the system for what it does not have."""

import os
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import ImageDraw, ImageFont, features

from ..processing.media_llava_st import make_printable

Color = tuple[int, int, int]

_ENDINGS = (".ttf", ".otf", ".ttc", ".otc")
# fmt: off
_ODD_STYLES = (
    "bold", "italic", "oblique", "mono", "serif", "cond", "narrow", "light", "thin", "black", "heavy", "medium",
    "lastresort", "symbol", "math", "emoji", "music",
)
# fmt: on
_JOINERS = "\u200c\u200d"  # they shape the letters around them, in Persian and in the scripts of India
LEFT_TO_RIGHT_MARK = "\u200e"  # behind letters from right to left it keeps times in their order
_HARD_SPACE = "\xa0"
_SHAPED = ("Arabic", "Hebrew", "Syriac", "Devanagari", "Bengali", "Tamil", "Telugu", "Thai", "Khmer", "Myanmar")


class FontRun(NamedTuple):
    """A stretch of a text that one font draws; without a path it is Pillow's own."""

    path: str | None
    text: str


@dataclass(frozen=True)
class Typeface:
    """Writes any text at one size, each stretch of it in a font that has its letters."""

    size: int  # height of the letters in pixels

    def getlength(self, text: str) -> float:
        """Return the width of a text in pixels."""
        return sum(_open_font(run.path, self.size).getlength(run.text) for run in split_runs(text))

    def write(
        self, draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, fill: Color, align: str = "l"
    ) -> None:
        """Write a text whose left end (`"l"`), middle (`"m"`) or right end (`"r"`) is at a place, halfway up."""
        left = place[0] - self.getlength(text) * {"l": 0, "m": 0.5, "r": 1}[align]
        ascent, descent = _open_font(None, self.size).getmetrics()
        baseline = place[1] + (ascent - descent) / 2
        for run in split_runs(text):
            font = _open_font(run.path, self.size)
            draw.text((left, baseline), run.text, fill=fill, font=font, anchor="ls")
            left += font.getlength(run.text)


def join_words(words: str, times: str) -> str:
    """Put times behind words, which may be written from right to left."""
    is_turned = any(unicodedata.bidirectional(char) in ("R", "AL") for char in words)
    mark = LEFT_TO_RIGHT_MARK if is_turned and _writes_both_ways() else ""
    return f"{words}, {mark}{times}" if words and times else words or times


def put_on_line(text: str, max_characters: int = 400) -> str:
    """Put a text on one line, without what no font can measure, see `make_printable`."""
    return " ".join(make_printable(text[:max_characters]).split())


def replace_undrawable(text: str) -> str:
    """Put the name of its script, in brackets, for each stretch of a text that no font here can draw."""
    parts: list[str] = []
    for char in text:
        if not _is_dependent(char) and find_font(char) is None:
            name = f"[{_name_script(char)}]"
            if not parts or parts[-1] != name:
                parts.append(name)
        elif char.isspace() or not (_is_dependent(char) and parts and len(parts[-1]) > 1):
            parts.append(char)  # but a mark goes with the letter that it belongs to
    return "".join(parts)


def describe_missing_fonts(*texts: str) -> str | None:
    """Return a sentence on what of some texts is not written as it should be, or `None`."""
    letters = {char for text in texts for char in put_on_line(text) if not _is_dependent(char)}
    missing = sorted({_name_script(char) for char in letters if find_font(char) is None})
    if missing:
        return f"no font here draws {' and '.join(missing)}: install one that does, such as the Noto fonts"
    if not _writes_both_ways():
        shaped = sorted({_name_script(char) for char in letters}.intersection(_SHAPED))
        if shaped:
            return f"{' and '.join(shaped)} is written letter by letter: Pillow finds no Raqm and FriBiDi here"
    return None


@lru_cache(maxsize=4096)
def split_runs(text: str) -> tuple[FontRun, ...]:
    """Split a text, in the order in which it is drawn from left to right, by the fonts that draw it."""
    text = text.replace(_HARD_SPACE, " ")  # which Pillow's own does not have
    whole = find_font("".join(sorted({char for char in text if not _is_dependent(char)})))
    if whole is not None:  # one font then also orders and joins the letters of all of it
        return (FontRun(whole or None, text),)
    runs: list[list[str]] = []
    for char in text:
        if not runs or not (_is_dependent(char) or _has_letter(runs[-1][0], char)):
            runs.append([find_font(char) or "", ""])
        runs[-1][1] += char
    first = next((kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL")), "L")
    ordered = runs if first == "L" else runs[::-1]
    return tuple(FontRun(path or None, piece) for path, piece in ordered)


@lru_cache(maxsize=4096)
def find_font(letters: str) -> str | None:
    """Return the path of a font that has all of some letters, `""` for Pillow's own, `None` if there is none."""
    return next((path for path in ("", *_list_fonts()) if all(_has_letter(path, char) for char in letters)), None)


def _is_dependent(char: str) -> bool:
    """Whether a character is written by the font of the one before it: spaces, marks, joiners."""
    return char.isspace() or char in _JOINERS + LEFT_TO_RIGHT_MARK or unicodedata.category(char).startswith("M")


def _writes_both_ways() -> bool:
    return bool(features.check("raqm") and features.version("fribidi"))


def _name_script(char: str) -> str:
    if unicodedata.category(char) in ("So", "Sk", "Cn", "Co"):
        return "symbol"
    name = unicodedata.name(char, "symbol").replace("-", " ").split()[0]
    return name if name == "CJK" else name.title()


@lru_cache(maxsize=65536)
def _has_letter(path: str, char: str) -> bool:
    """Whether a font draws a letter otherwise than one that it surely does not have."""
    font = _open_font(path or None, 20, ImageFont.Layout.BASIC)
    if font is None:
        return False
    drawn, absent = (font.getmask(letter) for letter in (char, "\U0010ffff"))
    return (drawn.size, bytes(drawn)) != (absent.size, bytes(absent))


@lru_cache(maxsize=512)
def _open_font(path: str | None, size: int, layout: int | None = None) -> ImageFont.FreeTypeFont | None:
    if path is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(path, size, layout_engine=layout)
    except OSError:  # a font of bitmaps, or a broken one
        return None


@lru_cache(maxsize=1)
def _list_fonts() -> tuple[str, ...]:
    """List the fonts of the system, plain ones without serifs first."""
    files = {file for folder in _list_font_folders() if folder.is_dir() for file in folder.rglob("*")}

    def rank(file: Path) -> tuple[int, bool, int, str]:
        name = file.stem.lower()
        return sum(style in name for style in _ODD_STYLES), "sans" not in name, len(name), str(file)

    return tuple(str(file) for file in sorted((f for f in files if f.suffix.lower() in _ENDINGS), key=rank))


def _list_font_folders() -> Iterator[Path]:
    """Yield the folders in which systems and environments keep fonts."""
    environment, home = os.environ, Path.home()
    yield Path(sys.prefix) / "share/fonts"
    yield home / ".fonts"
    yield Path(environment.get("XDG_DATA_HOME") or home / ".local/share") / "fonts"
    for folder in (environment.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":"):
        yield Path(folder) / "fonts"
    yield from (home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts"))
    if sys.platform == "win32":
        yield Path(environment.get("WINDIR", "C:/Windows")) / "Fonts"
        yield Path(environment.get("LOCALAPPDATA", home)) / "Microsoft/Windows/Fonts"
