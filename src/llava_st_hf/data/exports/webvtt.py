"""WebVTT: a file of chapters for each clip, a chapter for each span."""

from html import escape

from .clips import AnsweredClip


def write_webvtt(clip: AnsweredClip) -> dict[str, str]:
    """
    Write the spans of a clip, to the millisecond, for `<track kind="chapters">` and players.

    A span without length lasts a millisecond, and what lies before 0 starts there, as a cue has to.
    """
    cues = ["WEBVTT"]
    for number, (label, span) in enumerate(clip.list_labelled_spans(), start=1):
        start = max(round(span.start_seconds * 1000), 0)
        end = max(round(span.end_seconds * 1000), start + 1)
        cues.append(f"{number}\n{_write_time(start)} --> {_write_time(end)}\n{escape(label, quote=False)}")
    return {f"{clip.name}.vtt": "\n\n".join(cues) + "\n"}


def _write_time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"
