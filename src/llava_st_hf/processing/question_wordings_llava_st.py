"""The wordings of the published questions after the time and the place of an event, to the character.

Where two sentences follow each other without a space, so they do in the published pipeline.
"""

from collections.abc import Mapping
from types import MappingProxyType

# What the published questions ask after the place of the subject; it is no part of a question about times alone.
PLACE_QUESTIONS = (
    "Please describe the location of the corresponding subject/object in this video.",
    "Where is the corresponding subject/object located?",
    "Can you identify the position of the corresponding subject/object within this video?",
)
LOCATION_REQUEST = f" {PLACE_QUESTIONS[0]}"
# How the published questions ask for an event, with one of `PLACE_QUESTIONS` behind it; one form stands alone. The
# spelling is theirs.
EVENT_QUESTIONS = (
    "At which time interval in the video can we see {query} occurring?",
    "When does {query} occur in the video?",
    "At what point in the video can we observe {query} taking place?",
    "During which time is {query} happening in the video?Tell me the timestamp when {query} happened in the video.",
    "At what time does {query} take place in the video?",
)
LONE_REQUEST = "Please find the temporal and sapcial information about the following event: {query}."
TIME_REQUEST = "{query} Please find the corresponding time period in the video."
# How a question about a span begins; the first is the default.
SPAN_OPENERS = (
    "Between",
    "At",
    "During the span of",
    "In the time range",
    "During the period",
    "Within the time frame of",
    "In the time period",
    "During",
)
TIMES_AND_BOXES = (
    "Please firstly give the timestamps, and then give the spatial bounding box corresponding to each timestamp in "
    "the time period."
)
BOXES = "Please give the spatial bounding box corresponding to each timestamp in the time period."
END_CAPTION_BOXES = (
    "Please firstly give the end timestamp, then give the event associated with the object/subject, finally give the "
    "spatial bounding box corresponding to each timestamp in the time period."
)
# What the published pipeline appends to a question that is whole already, as those of the ST-Align benchmark are.
ANSWER_REQUESTS: Mapping[str, str] = MappingProxyType(
    {"stvg": TIMES_AND_BOXES, "svg": BOXES, "elc": END_CAPTION_BOXES}
)


def normalize_event(sentence: str) -> str:
    """Return a sentence as the published questions name an event: in lower case, without the full stop at its end."""
    return sentence.strip().strip(".").strip().lower()


__all__ = [
    "ANSWER_REQUESTS",
    "BOXES",
    "END_CAPTION_BOXES",
    "EVENT_QUESTIONS",
    "LOCATION_REQUEST",
    "LONE_REQUEST",
    "PLACE_QUESTIONS",
    "SPAN_OPENERS",
    "TIMES_AND_BOXES",
    "TIME_REQUEST",
    "normalize_event",
]
