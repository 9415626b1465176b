import errno

import pytest
from PIL import Image

from llava_st_hf import InputError, load_pipeline
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip
from llava_st_hf.page.answering import Answerer, Cancelled, PageLimits, describe_error


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(SHIPPED_CHECKPOINT)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_demo_clip(tmp_path_factory.mktemp("page") / "clip.mp4"))


def ignore(number, num_tokens):
    pass


def test_answers_are_those_of_the_pipeline_and_the_clip_is_read_once(pipeline, clip, monkeypatch):
    answerer = Answerer(pipeline, PageLimits())
    counts = []
    first, _ = answerer.ask(
        clip,
        "video",
        None,
        [DEMO_QUERY, "the purple square stops"],
        lambda number, tokens: counts.append((number, tokens)),
        num_frames=20,
    )
    assert first.to_dict() == pipeline(clip, DEMO_QUERY, num_frames=20).to_dict()
    assert {number for number, _ in counts} == {0, 1}
    assert max(counts)[1] > 10

    def refuse(*arguments, **options):
        raise AssertionError("the clip is read again")

    monkeypatch.setattr(type(pipeline.processor.video_processor), "__call__", refuse)
    (again,) = answerer.ask(clip, "video", "stvg", [DEMO_QUERY], ignore, num_frames=20)
    assert again == first
    with pytest.raises(AssertionError, match="read again"):
        answerer.ask(clip, "video", "stvg", [DEMO_QUERY], ignore, num_frames=10)


def test_what_a_visitor_may_not_ask(pipeline, clip, tmp_path):
    answerer = Answerer(pipeline, PageLimits(max_seconds=2, max_queries=1))
    with pytest.raises(InputError, match="2 s are allowed here"):
        answerer.check_media(clip)
    with pytest.raises(InputError, match="1 allowed at once"):
        answerer.ask(clip, "video", None, ["a", "b"], ignore)
    with pytest.raises(InputError, match="no clip or image yet"):
        answerer.check_media(None)
    letter = tmp_path / "letter.mp4"
    letter.write_text("no clip")
    with pytest.raises(InputError, match="no clip or image that can be read") as caught:
        answerer.check_media(str(letter))
    told = describe_error(caught.value)
    assert "letter.mp4" in told
    assert str(tmp_path) not in told
    with pytest.raises(InputError, match="query"):
        answerer.ask(clip, "video", "tvg", [""], ignore)


def test_image_is_told_from_clip(pipeline, clip, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "picture.png")
    answerer = Answerer(pipeline, PageLimits())
    assert answerer.check_media(str(tmp_path / "picture.png")) == "image"
    assert answerer.check_media(clip) == "video"


def test_stopped_in_the_middle(pipeline, clip):
    def stop(number, num_tokens):
        if num_tokens > 3:
            raise Cancelled

    answerer = Answerer(pipeline, PageLimits())
    with pytest.raises(Cancelled):
        answerer.ask(clip, "video", None, [DEMO_QUERY], stop, num_frames=20)
    (result,) = answerer.ask(clip, "video", None, [DEMO_QUERY], ignore, num_frames=20)
    assert result.spans


def test_errors_are_told_in_one_sentence(caplog):
    written = describe_error(OSError(errno.ENOSPC, "No space left on device", "/home/me/page/answer.json"))
    assert "No space left on device" in written
    unknown = describe_error(RuntimeError("expected\nat /home/me/model.py"))
    assert "RuntimeError" in unknown
    for told in (written, unknown):
        assert "/home" not in told
        assert "\n" not in told
    assert "/home/me/model.py" in caplog.text  # the owner finds it
