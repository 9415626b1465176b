"""Lines of `predictions.jsonl` for the tests of reports."""

from typing import Any

from llava_st_hf.processing.grounding_results_llava_st import GroundingResult, Span
from llava_st_hf.processing.media_llava_st import MediaInfo

HOSTILE = "<script>alert(1)</script> | a \x00 `b` *c* \\ \ud800 </svg>"


def make_line(number: int, tiou: float, confidence: float | None = None, **fields: Any) -> dict[str, Any]:
    """One line of a run of tvg: the truth is 2 to 4 s, the answer 2 s to where it has that IoU."""
    media = MediaInfo("video", 64, 48, (0, 50, 100), (0.0, 2.0, 4.0), source=f"clip{number // 2}.mp4")
    spans = (Span(2.0, 2.0 + 2 * tiou, confidence),)
    answer, truth = (
        GroundingResult("{answer}", spans=spans, media=media),
        GroundingResult("{truth}", spans=(Span(2.0, 4.0),)),
    )
    line = {"id": f"tvg-{number}", "task": "tvg", "question": "when?", "answer": answer.text, "seconds": 0.5}
    line |= {"result": answer.to_dict(), "truth": truth.to_dict(), "failure": None, "problems": []}
    return {**line, "scores": {"tiou": tiou}, "baseline": {"tiou": 0.25}, **fields}


def make_unusable(number: int) -> dict[str, Any]:
    """A line of an item whose media are gone."""
    gone = {"answer": None, "result": None, "truth": None, "failure": "missing_media", "problems": [HOSTILE]}
    return {**make_line(number, 0.0), **gone, "question": None}


def media_to_dict(media: MediaInfo) -> dict[str, Any]:
    """A medium as `predictions.jsonl` has it."""
    return GroundingResult("", media=media).to_dict()["media"]
