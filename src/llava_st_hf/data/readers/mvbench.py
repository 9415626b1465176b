"""Questions with choices in the form of MVBench."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..annotation_checks import check_numbers, require, require_text
from ..annotations import Annotation
from ..choices import LETTERS, write_choices
from ..media_probe import probe_timeline
from ..samples import Sample
from ..skips import make_error
from .base import FileReader, Part
from .json_files import load_json

_PICTURES_A_SECOND = 3.0  # of the folders of TVQA
_STAR, _CLEVRER, _PERCEPTION = "star/Charades_v1_480", "clevrer/video_validation", "perception/videos"
# The published files, and where the videos of each lie, below a folder `video`.
SUB_TASKS: Mapping[str, str] = {
    **dict.fromkeys(("action_sequence", "action_prediction", "object_interaction"), _STAR),
    **dict.fromkeys(
        ("object_existence", "moving_direction", "moving_count", "moving_attribute", "counterfactual_inference"),
        _CLEVRER,
    ),
    **dict.fromkeys(("object_shuffle", "action_count", "state_change", "character_order"), _PERCEPTION),
    "action_antonym": "ssv2_video",
    "action_localization": "sta/sta_video",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd",
    "scene_transition": "scene_qa/video",
    "unexpected_action": "FunQA_test/test",
}


@dataclass(eq=False)
class MvBenchReader(FileReader):
    """
    The path is a file, or a folder of such files (JSON). Read are, of an element: `video`, `question`, `candidates`
    (texts), `answer`, which is one of them, and where it is about a part of the video `start` and `end` in seconds.
    The sub-task is the `task_type` of an element, or else the name of its file.

    The video also lies where the published one does, or is a folder of pictures, three a second.
    """

    tasks = ("multiple_choice",)
    default_task = "multiple_choice"

    def list_entries(self) -> Sequence[Part]:
        """Return the questions of all files, each with the name of its file and its number there."""
        path = Path(self.path)
        questions = []
        for file in sorted(path.glob("*.json")) if os.path.isdir(path) else [path]:
            content = load_json(file, list, "files of MVBench")
            questions += [Part(raw, f"{file.stem} {number}", file.stem) for number, raw in enumerate(content)]
        return questions

    def get_groups(self, index: int) -> dict[str, str]:
        raw, _, file = self.entries[index]
        given = raw.get("task_type") if isinstance(raw, Mapping) else None
        return {"sub-task": given if isinstance(given, str) and given.strip() else file}

    def annotate(self, entry: Part) -> Annotation:
        raw = entry.raw
        choices, answer = require(raw, "candidates"), require_text(raw, "answer")
        if (
            not isinstance(choices, list)
            or not 2 <= len(choices) <= len(LETTERS)
            or not all(isinstance(choice, str) and choice.strip() for choice in choices)
        ):
            raise make_error("candidates", choices, f"give 2 to {len(LETTERS)} texts")
        if answer not in choices:
            raise make_error("answer", answer, "give one of the candidates")
        video, folder = require_text(raw, "video"), SUB_TASKS.get(entry.part, ".")
        media = self.folder.find_video(video, places=[f"{top}/{folder}/{video}" for top in ("video", ".")])
        return Annotation(
            task=self.task,
            media_type="video",
            media=media,
            video_fps=_PICTURES_A_SECOND if len(media) > 1 and self.video_fps is None else self.video_fps,
            query=write_choices(require_text(raw, "question"), choices),
            answer=f"({LETTERS[choices.index(answer)]}) {answer}",
        )

    def read(self, index: int) -> Sample:
        sample, raw = super().read(index), self.entries[index].raw
        if raw.get("start") is None and raw.get("end") is None:
            return sample
        times = [raw.get("start") or 0.0, require(raw, "end")]
        start, end = check_numbers(times, 2, "start, end", "[start, end] in seconds")
        if len(sample.media) > 1:
            seconds = np.arange(len(sample.media)) / sample.video_fps
        else:
            seconds = np.asarray(probe_timeline(sample.media[0].path).seconds)
        if not start < end or start > seconds[-1]:
            raise make_error("start, end", [start, end], f"give a part of a video of {seconds[-1]:.2f} s")
        return replace(sample, frame_range=tuple(int(np.abs(seconds - time).argmin()) for time in (start, end)))
