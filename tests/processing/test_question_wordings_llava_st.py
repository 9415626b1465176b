import json
import re
from collections import Counter

import pytest

from llava_st_hf.data.readers.base import name_event
from llava_st_hf.processing.question_wordings_llava_st import ANSWER_REQUESTS, SPAN_OPENERS
from llava_st_hf.processing.tasks_llava_st import get_task


@pytest.fixture(scope="module")
def problems(real_annotations_dir) -> list[tuple[str, str]]:
    """Videos and published questions of ST-Align STVG."""
    items = json.loads((real_annotations_dir / "st_align_stvg_truth_excerpt.json").read_text())
    return [(item["path"].removesuffix(".mp4"), item["problem"]) for item in items]


def test_every_published_question_is_one_of_the_wordings(problems):
    task, found = get_task("stvg"), Counter()
    for _, problem in problems:
        written, forms = problem + ANSWER_REQUESTS["stvg"], set()
        for asks_subject in (True, False):
            for variant, template in enumerate(task.list_prompts(asks_subject)):
                pattern = re.escape(template).replace(re.escape("{query}"), "(.*)")
                match = re.fullmatch(pattern, written)
                if match and task.write_prompt(variant, asks_subject, query=match[1].lower()) == written:
                    forms.add((asks_subject, variant))
        assert len(forms) == 1, problem
        found.update(forms)
    # Three interrogative wordings, and sixteen that name an event.
    assert len(found) == 3 + 16


def test_sentences_of_vidstg_make_the_published_questions(problems, real_annotations_dir):
    entries = json.loads((real_annotations_dir / "vidstg_val_excerpt.json").read_text())
    written: dict[str, set[str]] = {}
    for entry in entries:
        for kind in ("captions", "questions"):
            prompts = get_task("stvg").list_prompts(kind == "questions")
            for sentence in entry[kind]:
                written.setdefault(entry["vid"], set()).update(
                    get_task("stvg").write_prompt(
                        variant, kind == "questions", query=name_event(sentence["description"])
                    )
                    for variant in range(len(prompts))
                )
    known = [problem + ANSWER_REQUESTS["stvg"] in written.get(vid, ()) for vid, problem in problems]
    assert sum(known) > 100  # those whose sentence is in both excerpts


def test_openers_are_those_of_the_recordings(parity_dir):
    recorded = json.loads((parity_dir / "public/unit/datasets.json").read_text())["svg"]["items"]
    questions = [row["item"]["conversations"][0]["value"].removeprefix("<video>\n") for row in recorded]
    span = "{<TEMP-INPUT><TEMP-INPUT>}"
    task, query = get_task("svg"), "who does the adult watch?"
    written = {task.write_prompt(variant, True, query=query, span=span) for variant in range(3 * len(SPAN_OPENERS))}
    assert len(written) == 3 * len(SPAN_OPENERS) == 24
    assert written.issuperset(questions)
