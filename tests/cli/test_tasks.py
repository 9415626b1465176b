"""The task table that helps show is that of the library."""

import pytest
import typer

from llava_st_cli.tasks import check_task, complete_task, load_tasks
from llava_st_hf.processing.tasks_llava_st import TASKS, describe_tasks


def test_the_table_is_the_same():
    assert load_tasks().describe_tasks() == describe_tasks()
    assert complete_task("") == [(task.name, task.description) for task in TASKS.values()]
    assert [name for name, _ in complete_task("vid")] == ["video_captioning", "video_qa"]


def test_a_task_that_there_is_not():
    assert [check_task(name) for name in (None, *TASKS)] == [None, *TASKS]
    with pytest.raises(typer.BadParameter, match="'fly' is not one of classification, "):
        check_task("fly")
