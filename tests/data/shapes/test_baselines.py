import numpy as np
import pytest

from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.shapes.baselines import compute_baselines, format_baselines
from llava_st_hf.processing.grounding_text_llava_st import format_box, format_span, format_tube
from llava_st_hf.processing.tasks_llava_st import TASKS

LEFT, RIGHT = (0, 0, 0.5, 1), (0.5, 0, 1, 1)


class Told:
    """A data set of 5 frames a clip with the turns that it is given."""

    num_frames = 5

    def __init__(self, task, *turns):
        self.task, self.turns = task, turns

    def __len__(self):
        return len(self.turns)

    def read(self, index):
        kind = "image" if TASKS[self.task].media_type == "image" else "video"
        roles = ("user", "assistant") * 2
        messages = tuple({"role": r, "content": c} for r, c in zip(roles, self.turns[index], strict=False))
        return Sample(str(index), "told", self.task, kind, (Media(path="a"),), messages)


def tell(first, last, *boxes):
    return format_tube([(frame / 4, box) for frame, box in zip(range(first, last + 1), boxes, strict=True)])


def test_spans():
    truths = [(0, 0.5), (0, 0.5), (0.25, 0.75), (0.5, 1)]
    figures = compute_baselines(Told("tvg", *(("When?", format_span(*span)) for span in truths)))["tvg"]
    # The whole clip scores 0.5 each time; the first half 1, 1, 1/3 and 0; up to three quarters 2/3, 2/3, 2/3 and 1/4.
    assert figures == pytest.approx({"m_tIoU": (1 + 1 + 1 / 3) / 4, "tIoU@0.5": 1.0})


def test_boxes():
    answers = [("Where?", format_box(*box)) for box in (LEFT, LEFT, LEFT, RIGHT)]
    figures = compute_baselines(Told("rec", *answers))["rec"]
    assert figures == pytest.approx({"m_IoU": 0.75, "IoU@0.5": 1.0})


def test_tubes_in_given_spans():
    clips = [("Where?", tell(0, 1, LEFT, LEFT)), ("Where?", tell(1, 3, LEFT, RIGHT, RIGHT))]
    figures = compute_baselines(Told("svg", *clips))["svg"]
    assert figures == pytest.approx({"m_sIoU": (1 + 1 / 3) / 2, "m_vIoU": (1 + 1 / 3) / 2, "sIoU@0.5": 1.0})


def test_spans_and_tubes():
    clips = [
        ("?", f"{format_span(0, 0.5)} {tell(0, 2, LEFT, LEFT, LEFT)}"),
        ("?", f"{format_span(0, 0.75)} {tell(0, 3, LEFT, LEFT, LEFT, LEFT)}"),
    ]
    figures = compute_baselines(Told("stvg", *clips))["stvg"]
    assert figures["m_sIoU"] == pytest.approx(1)
    assert figures["m_tIoU"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["m_vIoU"] == pytest.approx((1 + 3 / 4) / 2)


def test_ends_after_a_given_start_and_box():
    question = f"Starts in <t=0.25> , {format_box(*LEFT)}?"
    clips = [
        (question, f"Ends in <t=1.0>, it moves. Object bounding box: {tell(1, 4, LEFT, LEFT, RIGHT, RIGHT)}"),
        (question, f"Ends in <t=0.5>, it moves. Object bounding box: {tell(1, 2, LEFT, LEFT)}"),
    ]
    figures = compute_baselines(Told("elc", *clips))["elc"]
    # To the end of the clip: 1 and 1/3. To 0.5: 1/3 and 1.
    assert figures["m_tIoU"] == pytest.approx(2 / 3)
    assert figures["m_sIoU"] == pytest.approx((0.5 + 1) / 2) and figures["sIoU@0.5"] == 1
    assert figures["m_vIoU"] == pytest.approx((2 / 4 + 2 / 2) / 2)
    assert figures["exact_match"] == 1


def test_words_by_question_are_measured_on_the_other_half():
    turns = [("A?", "yes."), ("A?", "yes."), ("B?", "no."), ("B?", "yes."), ("A?", "yes."), ("C?", "yes.")]
    figures = compute_baselines(Told("video_qa", *turns))["video_qa"]
    # Learnt: A yes, B no. Asked: A yes (right), B yes (wrong), C yes (right by the most common answer).
    assert figures == pytest.approx({"exact_match": 5 / 6, "exact_match_by_question": 2 / 3})


def test_words_of_grounded_answers_have_no_coordinates():
    answers = [("Describe.", f"a dog {format_box(*LEFT)}."), ("Describe.", f"a dog {format_box(*RIGHT)}.")]
    assert compute_baselines(Told("dgc", *answers))["dgc"]["exact_match"] == 1


def test_turns_of_one_talk_count_each():
    talk = ("A?", "yes.", "B?", "no.")
    assert compute_baselines(Told("conversation", talk, talk))["conversation"]["exact_match"] == 0.5


@pytest.fixture(scope="module")
def figures():
    return compute_baselines(ShapesDataset(list(TASKS), 1200, seed=1), num_samples=900)


def test_answers_that_ignore_the_clip_score_little(figures):
    assert list(figures) == list(TASKS)
    assert figures["tvg"]["m_tIoU"] < 0.45 and figures["stvg"]["m_tIoU"] < 0.45
    assert figures["stvg"]["m_vIoU"] < 0.2 and figures["svg"]["m_sIoU"] < 0.3
    assert figures["rec"]["IoU@0.5"] < 0.2
    assert figures["rc"]["exact_match"] < 0.15 and figures["tr"]["exact_match"] < 0.1
    assert figures["classification"]["exact_match"] < 0.3
    assert all(0 <= value <= 1 for values in figures.values() for value in values.values())


def test_figures_print_as_a_table(figures):
    lines = format_baselines(figures).splitlines()
    assert len(lines) == 15
    assert lines[1].split()[:3] == ["tvg", "m_tIoU", f"{figures['tvg']['m_tIoU']:.3f}"]
    assert np.isfinite(float(lines[1].split()[-1]))
