"""What a reader of a new format needs: how it lists its entries, and what an entry says."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from llava_st_hf.data.annotation_checks import require, require_text
from llava_st_hf.data.annotations import AnnotatedSpan, Annotation
from llava_st_hf.data.readers.base import FileReader
from llava_st_hf.data.readers.json_files import load_json
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.media_llava_st import InputError


@dataclass(eq=False)
class DescriptionsReader(FileReader):
    """{video: {"timestamps": [[start, end], ...] in seconds, "sentences": [...]}}."""

    ending: str = ".mp4"
    tasks = ("dvc", "tr")
    default_task = "dvc"

    def list_entries(self):
        return list(load_json(self.path).items())

    def get_entry_id(self, entry):
        return entry[0]

    def annotate(self, entry):
        name, raw = entry
        sentences = [require_text({"sentence": text}, "sentence") for text in require(raw, "sentences")]
        spans = [
            AnnotatedSpan(times, caption=sentence, field=f"timestamps[{number}]", cut_end=True)
            for number, (times, sentence) in enumerate(zip(require(raw, "timestamps"), sentences, strict=True))
        ]
        media = self.folder.find_media([name + self.ending], "video", "video")
        return Annotation(
            task=self.task,
            media_type="video",
            media=media,
            answer=sentences[0] if self.task == "tr" else None,
            spans=tuple(spans),
        )


def open_descriptions(folder: Path, clip: Path, **options) -> DescriptionsReader:
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    content = {
        "a": {"timestamps": [[0.0, 1.95], [1.95, 9.0]], "sentences": ["a man enters", " he leaves."]},
        "b": {"timestamps": [[0.0, 1.0]], "sentences": ["a dog"]},
        "a ": {"timestamps": [[3.0, 1.0]], "sentences": ["a dog"]},
        "": {"timestamps": [[0.0, 1.0]], "sentences": ["a dog"]},
    }
    (folder / "descriptions.json").write_text(json.dumps(content))
    return DescriptionsReader(folder / "descriptions.json", "mine", folder, **options)


def test_a_format_is_what_its_entries_say(clip, tmp_path):
    described, lost, reversed_span, nameless = open_descriptions(tmp_path, clip)
    assert isinstance(described, Sample), described
    assert (described.id, described.source, described.task) == ("a", "mine", "dvc")
    first, second = described.messages[1]["content"].split(". ")
    assert first.startswith("{<t=0.0><t=0.") and first.endswith("}, a man enters")
    assert second.endswith("<t=1.0>}, he leaves.")  # an end behind the clip is cut off
    assert (lost.id, lost.reason) == ("b", "missing_media")
    assert reversed_span.detail.startswith("timestamps[0] is [3.0, 1.0]: it ends before it starts")
    assert (nameless.id, nameless.detail.split(":")[0]) == ("record 3", "id is ''")


def test_options_are_fields_and_tasks_are_checked(clip, tmp_path):
    assert open_descriptions(tmp_path, clip, ending=".avi")[0].reason == "missing_media"
    assert "the record has 2 spans: task 'tr' needs one" in open_descriptions(tmp_path, clip, task="tr")[0].detail
    for options, found in (({"task": "rec"}, "choose one of dvc, tr"), ({"num_frames": 0}, "num_frames is 0")):
        with pytest.raises(InputError, match=found):
            open_descriptions(tmp_path, clip, **options)
    with pytest.raises(TypeError):
        open_descriptions(tmp_path, clip, frames=3)
    assert DescriptionsReader.list_options() == ["video_fps", "num_frames", "vary_prompts", "ending"]
