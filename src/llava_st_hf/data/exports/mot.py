"""MOT Challenge: a folder for each clip, with its tubes as lines of text."""

import configparser
import io
import json

from .clips import AnsweredClip


def write_mot(clip: AnsweredClip) -> dict[str, str]:
    """
    Write the tubes of a clip as `gt/gt.txt`, `seqinfo.ini` and `objects.json` of a sequence.

    A line is `frame, id, left, top, width, height, 1, -1, -1, -1`, frames from 1. The 1 says that the line counts:
    what reads `gt.txt` takes a confidence below 1 for "ignore this". In MOT a frame without a box says that the object
    is not to be seen: where one tube names a time, the others have a box, too, as far as they last. What the objects
    are stands in `objects.json`: readers refuse keys in `seqinfo.ini` that they do not know.
    """
    tracks = clip.list_tracks(shared_frames=True)
    rows = [
        (row.frame_index + 1, track.number, *row.box.xywh, 1, -1, -1, -1) for track in tracks for row in track.boxes
    ]
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # the keys are known in this case
    parser["Sequence"] = {
        "name": clip.name,
        "imDir": "img1",
        "frameRate": f"{clip.frame_rate:.10g}",
        "seqLength": str(clip.num_frames),
        "imWidth": str(int(clip.media.width)),
        "imHeight": str(int(clip.media.height)),
        "imExt": ".jpg",
    }
    settings = io.StringIO()
    parser.write(settings, space_around_delimiters=False)
    lines = "".join(",".join(map(str, row)) + "\n" for row in sorted(rows))
    names = json.dumps({str(track.number): track.label for track in tracks}, indent=2) + "\n"
    files = {"gt/gt.txt": lines, "seqinfo.ini": settings.getvalue(), "objects.json": names}
    return {f"{clip.name}/{name}": text for name, text in files.items()}
