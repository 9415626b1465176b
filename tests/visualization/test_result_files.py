"""An answer is shown where it is asked for, and saved in the form that the ending of a file names."""

import csv
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import av
import pytest
from PIL import Image, ImageShow

from llava_st_hf.processing.grounding_results_llava_st import Box, GroundingResult, Span, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import InputError, MediaError, MediaInfo
from llava_st_hf.visualization import draw_result


@pytest.fixture
def result(clip):
    media = MediaInfo("video", 320, 240, tuple(range(40)), tuple(k / 10 for k in range(40)), source=str(clip))
    tube = Tube(tuple(TubeBox(k / 10, k, Box(10 + k, 90, 80 + k, 150, 0.5)) for k in range(10, 30)))
    return GroundingResult("\ud800 {<t_1>}", spans=(Span(1.0, 2.9),), tubes=(tube,), query="a circle", media=media)


@pytest.fixture
def image_result(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "image.png")
    media = MediaInfo("image", 60, 40, source=str(tmp_path / "image.png"))
    return GroundingResult("", boxes=(Box(5, 5, 50, 30),), query="a dog", media=media)


def test_each_ending_is_a_form(result, tmp_path):
    for ending in ("json", "csv", "html", "png", "JPG", "mp4"):
        result.save(tmp_path / f"answer.{ending}")
    assert GroundingResult.from_dict(json.loads((tmp_path / "answer.json").read_text())) == result
    with open(tmp_path / "answer.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["span"] + ["box"] * 20
    assert (rows[1]["start_seconds"], rows[1]["x2"], rows[1]["confidence"]) == ("1.0", "90", "0.5")
    assert (tmp_path / "answer.html").read_text().startswith("<!doctype html>")
    assert Image.open(tmp_path / "answer.png").format == "PNG"
    assert Image.open(tmp_path / "answer.JPG").format == "JPEG"
    with av.open(str(tmp_path / "answer.mp4")) as container:
        assert container.streams.video[0].frames == 40


def test_an_image_is_saved_with_its_boxes(image_result, tmp_path):
    image_result.save(tmp_path / "answer.png")
    drawn = Image.open(tmp_path / "answer.png")
    scale = drawn.width // image_result.media.width  # of an image this small the picture is larger
    assert drawn.getpixel((5 * scale, 15 * scale)) != (0, 0, 0)
    with pytest.raises(InputError, match=r"answer\.mp4: give a name that ends in \.json or"):
        image_result.save(tmp_path / "answer.mp4")


def test_the_file_may_be_given(result, clip, tmp_path):
    unknown = replace(result, media=replace(result.media, source=None))
    for ending in ("png", "mp4"):
        with pytest.raises(InputError, match="source is not known"):
            unknown.save(tmp_path / f"answer.{ending}")
        for source in (clip, clip.read_bytes()):
            unknown.save(tmp_path / f"answer.{ending}", source)
    unknown.save(tmp_path / "answer.json")
    unknown.save(tmp_path / "answer.html")


def test_what_cannot_be_saved_is_one_line_and_leaves_nothing(result, image_result, tmp_path):
    with pytest.raises(InputError, match=r"answer\.gif: give a name that ends in \.json or \.csv or .*\.mp4"):
        result.save(tmp_path / "answer.gif")
    with pytest.raises(InputError, match="does not exist, make it first"):
        result.save(tmp_path / "nowhere" / "answer.json")
    with pytest.raises(MediaError, match="does not exist"):
        result.save(tmp_path / "answer.png", tmp_path / "gone.mp4")
    with pytest.raises(InputError, match="that is what is drawn on"):
        image_result.save(image_result.media.source)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_it_is_shown_as_a_picture_or_in_a_notebook(result, monkeypatch):
    shown = []
    monkeypatch.setattr(ImageShow, "show", lambda image, title: shown.append((image.size, title)) or True)
    result.show()
    assert shown == [((5 * 320 + 4 * 18 + 2 * 28, draw_result(result).height), "a circle")]
    monkeypatch.setattr(ImageShow, "show", lambda image, title: False)
    with pytest.raises(InputError, match="no program here that shows pictures"):
        result.show()
    display = SimpleNamespace(display=shown.append, HTML=lambda html: html)
    notebook = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None), display=display)
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    result.show()
    assert shown[1].startswith("<div") and "data:image/jpeg" in shown[1]


def test_without_the_package_the_rest_works(result, monkeypatch):
    """As where the class came as remote code."""
    for name in ("llava_st_hf", "llava_st_hf.visualization"):
        monkeypatch.setitem(sys.modules, name, None)
    assert result._repr_html_() is None
    for act in (result.show, lambda: result.save("answer.json")):
        with pytest.raises(ImportError, match="pip install llava-st-hf"):
            act()
    assert "a circle" in str(result)
