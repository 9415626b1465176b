"""Holds the common tests to the table in exceptions.py: no skip and no failure without an entry, no entry too many."""

import re

import pytest
from ecosystem.exceptions import Fails, Needs, Skips, find_exception

# Marks that the common tests carry; pytest is told to refuse marks that nobody declared.
MARKERS = (
    "accelerate_tests",
    "flash_attn_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "is_pipeline_test",
    "is_training_test",
    "torch_compile_test",
)
HAS_MET_ENTRY = pytest.StashKey[bool]()


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", f"{marker}: a kind of test of transformers itself")


@pytest.fixture(autouse=True, scope="module")
def on_one_thread(one_thread):
    """Every test here takes a tiny model."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if item.cls is not None and (report.when == "call" or report.skipped):
        judge(report, item, "" if call.excinfo is None else call.excinfo.exconly())
    return report


def judge(report: pytest.TestReport, item: pytest.Item, message: str) -> None:
    """Fail a test that does not do what the table says of it; one that fails as the table says counts as skipped."""
    key, entry = find_exception(item.cls.__name__, item.name)
    if report.skipped:
        if isinstance(entry, Skips) and re.search(entry.message, message):
            item.stash[HAS_MET_ENTRY] = True
        else:
            _fail(report, f"{message}\nskipped without an entry in exceptions.py, or for a reason that is not its own")
    elif report.failed and isinstance(entry, Fails) and re.search(entry.message, message):
        item.stash[HAS_MET_ENTRY] = True
        report.outcome, report.wasxfail = "skipped", entry.reason
    # A part of a test may pass where another part is what the entry is about.
    elif (
        report.passed
        and not isinstance(entry, Needs | None)
        and not hasattr(report, "context")
        and HAS_MET_ENTRY not in item.stash
    ):
        _fail(report, f"passes: the entry {key!r} in exceptions.py is not needed any more")


def _fail(report: pytest.TestReport, message: str) -> None:
    report.outcome, report.longrepr = "failed", message
