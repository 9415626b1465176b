"""What one answer is worth, and the metrics of many: our own protocol, and those of publications.

All compare a `GroundingResult` with a `GroundingResult`: spans in seconds, boxes and tubes in pixels, on the same clip
or image. What of an answer is measured stands in the table of tasks. `find_failure` says why an answer could not be
read. Protocols that score every frame or second of a clip take the truth of `truths`, which has them all.
"""

from collections.abc import Mapping

from ...processing import InputError
from .base import Protocol, find_failure
from .community import CommunityProtocol
from .default import MEASURES, DefaultProtocol, Measure
from .judge import JudgeProtocol
from .reference import ReferenceProtocol
from .v_star import VStarProtocol
from .vue import VueProtocol

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        DefaultProtocol(),
        ReferenceProtocol(),
        CommunityProtocol(),
        VueProtocol(),
        VStarProtocol(),
        JudgeProtocol(),
    )
}


def get_protocol(name: str) -> Protocol:
    """Return a protocol by its name; an unknown one is an `InputError` with all names."""
    if name not in PROTOCOLS:
        raise InputError(f"protocol is {name!r}: choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


__all__ = [
    "MEASURES",
    "PROTOCOLS",
    "CommunityProtocol",
    "DefaultProtocol",
    "JudgeProtocol",
    "Measure",
    "Protocol",
    "ReferenceProtocol",
    "VStarProtocol",
    "VueProtocol",
    "find_failure",
    "get_protocol",
]
