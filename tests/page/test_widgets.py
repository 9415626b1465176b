from types import SimpleNamespace

import pytest

from llava_st_hf import TASKS
from llava_st_hf.page.widgets import PAGE_CSS, USUAL_TASK, show_needed

GRADIO = SimpleNamespace(update=dict)


@pytest.mark.parametrize("task", [USUAL_TASK, *TASKS])
def test_a_task_has_the_fields_that_it_takes(task):
    queries, *fields = show_needed(GRADIO, task)
    shown = {name for name, field in zip(("span", "start", "box"), fields, strict=True) if field["visible"]}
    needs = set(TASKS[task].needs) if task in TASKS else {"query"}
    assert shown == needs - {"query"}
    assert queries["interactive"] == ("query" in needs)
    assert ("no question" in queries["label"]) == ("query" not in needs)


def test_nothing_is_fetched_from_elsewhere():
    assert "url(" not in PAGE_CSS
    assert "@import" not in PAGE_CSS
