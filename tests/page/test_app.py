"""The handlers of the page, without a browser and without gradio."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from llava_st_hf import load_pipeline
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip
from llava_st_hf.page import app
from llava_st_hf.page.answering import Answerer, PageLimits
from llava_st_hf.page.widgets import USUAL_TASK


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


def ask(page, path, visitor="a", task=USUAL_TASK, query=DEMO_QUERY, **fields):
    request = SimpleNamespace(session_hash=visitor)
    fields = {"num_frames": 20, "first": None, "last": None, "span": "", "start": None, "box": "", **fields}
    return list(page.answer(path, task, query, **fields, request=request))[-1]


def list_files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_files_of_an_answer_replace_those_of_the_one_before_and_go_with_the_visitor(page, clip, tmp_path):
    first, second = ask(page, clip)["finished"], ask(page, clip)["finished"]
    assert first["files"] != second["files"]
    assert list_files(page.folder) == ["answer.json", "answer.mp4", "answer.png", "preview.mp4"]
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


def test_uploads_go_with_the_last_visitor_who_has_them(page, tmp_path):
    upload, own = page.folder / "hash" / "clip.mp4", tmp_path / "example.mp4"
    upload.parent.mkdir()
    visitors = [SimpleNamespace(session_hash=name) for name in ("a", "b")]
    for path in (upload, own):
        path.write_bytes(b"")
        for visitor in visitors:
            page.remember(str(path), visitor)
    page.remember(None, visitors[0])
    page.forget(visitors[0])
    assert upload.exists()
    page.forget(visitors[1])
    assert not upload.exists()
    assert own.exists()  # a clip of the gallery
    page.forget(visitors[1])


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>.mp4", "a" * 240 + ".mp4", "e\u0301\u202e \n'\".mp4", "%2e.mp4"]
)
def test_a_clip_may_have_any_name(page, clip, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(Path(clip).read_bytes())
    finished = ask(page, str(path))["finished"]
    assert finished["json"][0]["media"]["source"] == name
    assert finished["json"][0]["spans"]
    path.write_bytes(b"")
    told = ask(page, str(path))
    assert told["is_error"]
    assert "empty" in told["status"]
    assert "\n" not in told["status"]


def test_fields_that_a_task_does_not_show_are_not_sent(page, clip):
    shown = ask(page, clip, span="1, 2", start=1.0, box="1, 2, 3, 4")
    assert "finished" in shown
    assert "start_seconds" in str(ask(page, clip, task="elc", box="0, 162, 95, 268")["status"])
    assert "box is '': give 4 numbers" in ask(page, clip, task="elc", start=1.6)["status"]
    assert "finished" in ask(page, clip, task="elc", start=1.6, box="0, 162, 95, 268", query="ignored")
    assert "span is '1': give 2 numbers" in ask(page, clip, task="tr", span="1")["status"]
    assert "only one end" in ask(page, clip, first=1.0)["status"]
    assert "frames is 1000" in ask(page, clip, num_frames=1000)["status"]


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
