"""The rules of the house that can be counted: lengths, and which folder may use which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"
LIBRARY = SOURCES / "llava_st_hf"
MAX_LINES = {"function": 70, "file": 550, "__init__.py": 70}
LONG_FILES = {"modeling_llava_st.py"}
# What the files of a folder, or a file beside the folders, may use besides themselves: CONTRIBUTING.md has the map.
TRAVELLING = {"processing", "modeling"}
SHARED = {"data", "inference", "visualization"}
DOING = {"training", "evaluation", "hub", "checkpoints", "page", "push_methods"}
MAY_USE = {
    "modeling": set(),
    "processing": set(),
    "utils": {"processing"},
    **{name: {*TRAVELLING, "utils", *SHARED} for name in SHARED},
    **{name: {*TRAVELLING, "utils", *SHARED, *DOING} for name in DOING},
    "demo": {*TRAVELLING, "utils", *SHARED},
    "__init__": {*TRAVELLING, *SHARED, "evaluation", "push_methods"},
}


def list_files(folder: Path = SOURCES) -> list[Path]:
    """Return the files of the sources; a template is code of somebody else's."""
    return sorted(path for path in folder.rglob("*.py") if "card_templates" not in path.parts)


def list_imports(path: Path) -> Iterator[str]:
    """Yield the modules of the library that a file imports, from its root on."""
    package = path.relative_to(SOURCES).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("llava_st_hf"))
        elif isinstance(node, ast.ImportFrom):
            parts = [*package[: len(package) - node.level + 1]] if node.level else []
            parts += node.module.split(".") if node.module else []
            if parts[:1] == ["llava_st_hf"]:
                # `from . import name` may be of a module.
                yield from {".".join([*parts[1:], *([alias.name] if len(parts) == 1 else [])]) for alias in node.names}
            elif parts[:1] == ["llava_st_cli"]:
                yield "llava_st_cli"


@pytest.mark.parametrize("path", list_files(), ids=lambda path: str(path.relative_to(SOURCES)))
def test_nothing_is_long(path):
    text = path.read_text(encoding="utf-8")
    if path.name not in LONG_FILES:
        assert text.count("\n") <= MAX_LINES.get(path.name, MAX_LINES["file"])
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES["function"]} == {}


def test_each_floor_uses_those_below_it():
    found = set()
    for path in list_files(LIBRARY):
        home = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
        for module in list_imports(path):
            floor = module.partition(".")[0]
            if floor != home and floor not in MAY_USE[home]:
                found.add((home, module))
    assert found == set()


def test_what_travels_imports_siblings_only():
    for name in TRAVELLING:
        files = list_files(LIBRARY / name)
        assert {path.parent for path in files} == {LIBRARY / name}
        for path in files:
            imported = {module for module in list_imports(path) if module.partition(".")[0] != name}
            assert imported == set(), path


@pytest.mark.parametrize("path", list_files(), ids=lambda path: str(path.relative_to(SOURCES)))
def test_public_names_come_from_their_package(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert path.name == "__init__.py" or path.parent.name in TRAVELLING or not list_public(tree)
    for node in ast.walk(tree):
        parts = (node.module or "").removeprefix("llava_st_hf.").split(".") if isinstance(node, ast.ImportFrom) else []
        if len(parts) == 2 and parts[0] in TRAVELLING:
            package = ast.parse((LIBRARY / parts[0] / "__init__.py").read_text(encoding="utf-8"))
            assert {alias.name for alias in node.names}.isdisjoint(list_public(package)), ast.unparse(node)


def list_public(tree: ast.Module) -> list[str]:
    """Return the names that `__all__` of a module holds."""
    lists = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    return [name for node in lists for name in ast.literal_eval(node.value)]


def test_the_map_names_every_folder():
    text = (SOURCES.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = {path.parent.relative_to(LIBRARY).parts[0] for path in list_files(LIBRARY) if path.parent != LIBRARY}
    assert [name for name in sorted(folders) if f"`{name}/" not in text] == []
    assert folders <= MAY_USE.keys()
