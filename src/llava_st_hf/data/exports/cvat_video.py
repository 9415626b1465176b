"""CVAT for video 1.1: a file of XML for each clip, a track for each tube."""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from .clips import AnsweredClip, ExportedTrack

_SIDES = ("xtl", "ytl", "xbr", "ybr")


def write_cvat_video(clip: AnsweredClip) -> dict[str, str]:
    """
    Write the tubes of a clip.

    The label of all of them is `object`, and their words are its attribute `caption`, so that a task in CVAT needs one
    label only. A box that the answer has is a key frame, between which CVAT interpolates as `Tube.box_at` does. Behind
    its last box an object is outside, as CVAT would let it stay to the end of the clip.
    """
    root = Element("annotations")
    _add(root, "version", "1.1")
    task = SubElement(SubElement(root, "meta"), "task")
    facts = {
        "name": clip.name,
        "size": clip.num_frames,
        "mode": "interpolation",
        "start_frame": 0,
        "stop_frame": clip.num_frames - 1,
    }
    for name, value in facts.items():
        _add(task, name, value)
    label = SubElement(SubElement(task, "labels"), "label")
    _add(label, "name", "object")
    attribute = SubElement(SubElement(label, "attributes"), "attribute")
    for name, value in (("name", "caption"), ("mutable", False), ("input_type", "text")):
        _add(attribute, name, value)
    size = SubElement(task, "original_size")
    _add(size, "width", int(clip.media.width))
    _add(size, "height", int(clip.media.height))
    _add(task, "source", clip.path.name)
    for track in clip.list_tracks():
        _add_track(root, track, clip.num_frames)
    indent(root)
    return {f"{clip.name}.xml": tostring(root, encoding="unicode", xml_declaration=True) + "\n"}


def _add_track(root: Element, track: ExportedTrack, num_frames: int) -> None:
    element = SubElement(root, "track", id=str(track.number - 1), label="object", source="auto")
    end = track.boxes[-1].frame_index + 1
    rows = [(row.frame_index, row.box, row.is_named, False) for row in track.boxes]
    rows += [(end, track.boxes[-1].box, True, True)] if end < num_frames else []
    for frame, box, is_named, is_outside in rows:
        flags = {"keyframe": is_named, "outside": is_outside, "occluded": False}
        values = {"frame": frame, **{name: int(value) for name, value in flags.items()}}
        values |= {**dict(zip(_SIDES, map(float, box.xyxy), strict=True)), "z_order": 0}
        part = SubElement(element, "box", {name: repr(value) for name, value in values.items()})
        SubElement(part, "attribute", name="caption").text = track.label


def _add(parent: Element, name: str, value: object) -> None:
    SubElement(parent, name).text = str(value)
