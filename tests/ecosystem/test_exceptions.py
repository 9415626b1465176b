"""The table of exceptions says neither too little nor too much, and the common tests are held to it."""

import importlib
import inspect
import unittest
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import pytest
from ecosystem import conftest, exceptions
from ecosystem.common_tests import PACKAGE, import_common_tests
from ecosystem.exceptions import EXCEPTIONS, Adapts, Fails, Needs, Skips, find_exception

import_common_tests("test_modeling_common")  # skips this file where the others are skipped

MODULES = [
    importlib.import_module(f"ecosystem.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if path.name != Path(__file__).name
]
CLASSES = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if inspect.isclass(value) and issubclass(value, unittest.TestCase) and value.__module__ == module.__name__
}


def find_mixin_attribute(test_class: type, name: str) -> object:
    """Return what the library's mixins say of a name, `None` where they leave it to the test class."""
    for base in test_class.__mro__:
        if base.__module__.startswith(PACKAGE) and name in vars(base):
            value = vars(base)[name]
            return None if getattr(value, "__isabstractmethod__", False) or value == () else value
    return None


def find_adapted(test_class: type) -> set[str]:
    """Return the names that a class sets although a mixin has a value for them."""
    adapted = set()
    for name, value in vars(test_class).items():
        inherited = find_mixin_attribute(test_class, name)
        if inherited is None or name.startswith("__") or name in ("setUp", "setUpClass", "_abc_impl"):
            continue
        if inspect.unwrap(value) is not inspect.unwrap(inherited):  # the mixin of models wraps each of its tests
            adapted.add(f"{test_class.__name__}::{name}")
    return adapted


def test_every_skip_has_a_test():
    tests = [
        find_exception(class_name, test)[0]
        for class_name, test_class in CLASSES.items()
        for test in dir(test_class)
        if test.startswith("test_")
    ]
    idle = [key for key, entry in EXCEPTIONS.items() if not isinstance(entry, Adapts) and key not in tests]
    assert not idle


def test_every_replaced_part_of_a_mixin_has_an_entry_and_every_entry_a_part():
    adapted = set().union(*map(find_adapted, CLASSES.values()))
    keys = {key for key, entry in EXCEPTIONS.items() if isinstance(entry, Adapts)}
    assert {name for name in adapted if not any(fnmatchcase(name, key) for key in keys)} == set()
    assert {key for key in keys if not any(fnmatchcase(name, key) for name in adapted)} == set()


@pytest.mark.parametrize(
    ("entry", "outcome", "message", "judged"),
    [
        (None, "passed", "", "passed"),
        (None, "failed", "boom", "failed"),
        (None, "skipped", "needs a GPU", "failed"),
        (Skips("GPU", ""), "skipped", "needs a GPU", "skipped"),
        (Skips("GPU", ""), "skipped", "needs the network", "failed"),
        (Skips("GPU", ""), "passed", "", "failed"),
        (Skips("GPU", ""), "failed", "GPU", "failed"),
        (Needs("GPU", ""), "skipped", "needs a GPU", "skipped"),
        (Needs("GPU", ""), "skipped", "needs the network", "failed"),
        (Needs("GPU", ""), "passed", "", "passed"),
        (Needs("GPU", ""), "failed", "GPU", "failed"),
        (Fails("boom", ""), "failed", "a boom", "skipped"),
        (Fails("boom", ""), "failed", "a bang", "failed"),
        (Fails("boom", ""), "passed", "", "failed"),
        (Fails("boom", ""), "skipped", "boom", "failed"),
    ],
)
def test_a_test_is_held_to_its_entry(monkeypatch, entry, outcome, message, judged):
    monkeypatch.setattr(exceptions, "EXCEPTIONS", {} if entry is None else {"Tests::test_*": entry})
    item = SimpleNamespace(cls=type("Tests", (), {}), name="test_it", stash=pytest.Stash())
    report = pytest.TestReport("tests", ("tests", 1, "test_it"), {}, outcome, None, "call")
    conftest.judge(report, item, message)
    assert report.outcome == judged


@pytest.mark.parametrize(("entry", "judged"), [(Skips("GPU", ""), "passed"), (None, "passed")])
def test_a_subtest_that_skips_as_its_entry_says_is_enough(monkeypatch, entry, judged):
    monkeypatch.setattr(exceptions, "EXCEPTIONS", {} if entry is None else {"Tests::test_*": entry})
    item = SimpleNamespace(cls=type("Tests", (), {}), name="test_it", stash=pytest.Stash())
    part = pytest.TestReport("tests", ("tests", 1, "test_it"), {}, "skipped", None, "call")
    part.context = "part"
    conftest.judge(part, item, "needs a GPU")
    assert part.outcome == ("failed" if entry is None else "skipped")
    report = pytest.TestReport("tests", ("tests", 1, "test_it"), {}, "passed", None, "call")
    conftest.judge(report, item, "")
    assert report.outcome == judged
