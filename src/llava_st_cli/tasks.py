"""The task table, for helps and completions, without the seconds that an import of the library takes."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import typer


def load_tasks() -> ModuleType:
    """
    Import `processing/tasks_llava_st.py` without the packages that it lies in.

    The files of `processing/` import their siblings only, as they travel to the Hub, so that the folder can be a
    package of its own. What comes from here is for showing: its classes are not those of the library.
    """
    if (name := "llava_st_cli_processing") not in sys.modules:
        (folder,) = find_spec("llava_st_hf").submodule_search_locations
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(Path(folder) / "processing")]
    return import_module(f"{name}.tasks_llava_st")


def complete_task(incomplete: str) -> list[tuple[str, str]]:
    """Return the tasks that begin so, with what they are."""
    tasks = load_tasks().TASKS.values()
    return [(task.name, task.description) for task in tasks if task.name.startswith(incomplete)]


def check_task(name: str | None) -> str | None:
    """Refuse a task that there is not, as wrong arguments."""
    if name is not None and name not in (tasks := load_tasks().TASKS):
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(sorted(tasks))}.")
    return name
