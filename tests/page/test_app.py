"""The handlers of the page, without a browser and without gradio."""

import errno
from types import SimpleNamespace

import pytest

from llava_st_hf import load_pipeline
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip
from llava_st_hf.page import app
from llava_st_hf.page.answering import Answerer, PageLimits


@pytest.fixture(scope="module")
def answerer():
    return Answerer(load_pipeline(SHIPPED_CHECKPOINT), PageLimits())


@pytest.fixture
def page(answerer, tmp_path):
    (tmp_path / "page").mkdir()
    return app._Page(answerer, tmp_path / "page", (), 20)


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "upload").mkdir()
    return str(write_demo_clip(tmp_path / "upload" / "clip.mp4"))


def ask(page, path, visitor="a"):
    request = SimpleNamespace(session_hash=visitor)
    return list(page.answer(path, app._USUAL_TASK, DEMO_QUERY, 20, None, None, "", "", request))[-1]


def list_files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_files_of_an_answer_replace_those_of_the_one_before_and_go_with_the_visitor(page, clip, tmp_path):
    first, second = ask(page, clip)["finished"], ask(page, clip)["finished"]
    assert first["files"] != second["files"]
    assert list_files(page.folder) == ["answer.json", "answer_1.mp4", "answer_1.png", "preview.mp4"]
    assert str(tmp_path) not in str(second["json"])
    assert second["json"][0]["media"]["source"] == "clip.mp4"
    ask(page, clip, visitor="b")
    page.forget(SimpleNamespace(session_hash="a"))
    assert len(list(page.folder.iterdir())) == 1


def test_what_the_browser_calls_itself_is_no_path(page, clip, tmp_path):
    ask(page, clip, visitor="../upload")
    page.forget(SimpleNamespace(session_hash="../upload"))
    assert list_files(tmp_path / "upload") == ["clip.mp4"]
    assert list(page.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["write_preview", "write_json_whole"])
def test_a_full_disk_is_said_in_one_sentence_and_leaves_nothing(page, clip, tmp_path, monkeypatch, name):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "answer.json"))

    monkeypatch.setattr(app, name, fail)
    told = ask(page, clip)
    assert told["is_error"]
    assert "No space left on device" in told["status"]
    assert str(tmp_path) not in told["status"]
    assert list_files(page.folder) == []


def test_a_clip_that_goes_away_is_said_in_one_sentence(page, clip, tmp_path, monkeypatch):
    ask_model = Answerer.ask

    def lose(self, path, *arguments, **options):
        results = ask_model(self, path, *arguments, **options)
        (tmp_path / "upload" / "clip.mp4").unlink()
        return results

    monkeypatch.setattr(Answerer, "ask", lose)
    told = ask(page, clip)
    assert told["is_error"]
    assert "clip.mp4" in told["status"]
    assert str(tmp_path) not in told["status"]
    assert list_files(page.folder) == []
    assert ask(page, clip)["is_error"]
