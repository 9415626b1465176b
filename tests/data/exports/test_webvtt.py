import pytest

from llava_st_hf.data.exports import export_answers


def test_a_chapter_for_each_span(answers, tmp_path):
    (path,) = export_answers(answers, "webvtt", tmp_path / "a.vtt").paths
    assert path.read_text() == (
        "WEBVTT\n\n"
        "1\n00:00:00.000 --> 00:00:00.001\nIt starts.\n\n"
        '2\n00:00:00.500 --> 00:00:02.000\nthe "red" &lt;circle&gt; &amp; co\n\n'
        "3\n00:00:00.800 --> 00:00:01.600\na blue square\n\n"
        "4\n00:00:02.000 --> 00:00:03.900\nIt stops --&gt; &amp; stays.\n"
    )


def test_needs_no_clip(answers, tmp_path):
    (path,) = export_answers(answers, "webvtt", tmp_path / "folder", media_folder=tmp_path).paths
    assert path == tmp_path / "folder" / "circle.vtt"


def test_webvtt_py_reads_it(answers, tmp_path):
    webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py")
    (path,) = export_answers(answers, "webvtt", tmp_path / "a.vtt").paths
    cues = [(cue.start, cue.end) for cue in webvtt.read(str(path))]
    assert cues[1:3] == [("00:00:00.500", "00:00:02.000"), ("00:00:00.800", "00:00:01.600")]
    assert len(cues) == 4
