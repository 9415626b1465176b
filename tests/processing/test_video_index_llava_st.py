"""What an mp4 may claim before FFmpeg opens it."""

import struct

import pytest
from hostile_files import change_box, write_box, write_claiming_fragment, write_claiming_mp4, write_mp4

from llava_st_hf.processing.media_llava_st import MediaError, OversizedMediaError
from llava_st_hf.processing.video_decoding_llava_st import read_video
from llava_st_hf.processing.video_file_llava_st import open_video
from llava_st_hf.processing.video_index_llava_st import check_index


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.mark.parametrize("write", [write_claiming_mp4, write_claiming_fragment])
@pytest.mark.parametrize("head", [b"", write_box(b"????", b"")])
def test_more_samples_than_bytes_are_refused(folder, write, head, tmp_path):
    content = head + write(folder)
    (tmp_path / "clip.mp4").write_bytes(content)
    for source in (content, tmp_path / "clip.mp4"):
        with pytest.raises(MediaError, match="its index claims 40,000,000 samples, more than its"):
            read_video(source, num_frames=4)


def test_chunks_may_not_hold_more_samples_than_there_are(folder):
    content = change_box(write_mp4(folder), b"stsc", lambda old: struct.pack(">IIIII", 0, 1, 1, 2**31, 1))
    with pytest.raises(MediaError, match="its index claims"):
        check_index(content, "clip")


def test_samples_of_one_track_have_a_limit_however_long_the_file(folder, monkeypatch):
    content = write_mp4(folder, num_frames=40)
    check_index(content, "clip")
    monkeypatch.setattr("llava_st_hf.processing.video_index_llava_st.MAX_SAMPLES", 39)
    with pytest.raises(OversizedMediaError, match="has 40 samples, more than the limit of 39; cut the clip"):
        check_index(content, "clip")


def test_an_edit_list_may_not_multiply_samples(folder, monkeypatch):
    monkeypatch.setattr("llava_st_hf.processing.video_index_llava_st._MAX_EDITED_SAMPLES", 1000)
    content = write_mp4(folder, num_frames=40)
    check_index(content, "clip")
    edits = write_box(b"elst", struct.pack(">II", 0, 26) + bytes(26 * 12))
    track = content.index(b"trak")
    (size,) = struct.unpack(">I", content[track - 4 : track])
    longer = content[: track - 4] + struct.pack(">I", size + len(edits)) + b"trak" + edits + content[track + 4 :]
    moov = longer.index(b"moov")
    (size,) = struct.unpack(">I", longer[moov - 4 : moov])
    longer = longer[: moov - 4] + struct.pack(">I", size + len(edits)) + longer[moov:]
    with pytest.raises(OversizedMediaError, match="26 pieces by an edit list"):
        check_index(longer.replace(b"edts", b"free"), "clip")


def test_an_index_that_cannot_be_seen_is_refused():
    with pytest.raises(MediaError, match=r"compressed \(cmov\)"):
        check_index(write_box(b"moov", write_box(b"cmov", b"1234")), "clip")


def test_boxes_nested_without_end_and_cut_files_end(folder):
    nested = b""
    for _ in range(1000):
        nested = write_box(b"moov", nested)
    check_index(nested, "clip")
    content = write_mp4(folder)
    for cut in range(0, len(content), 97):
        check_index(content[:cut], "clip")


def test_frames_have_a_limit_where_nothing_claims_them(folder, monkeypatch):
    monkeypatch.setattr("llava_st_hf.processing.video_file_llava_st.MAX_SAMPLES", 30)
    content = write_mp4(folder, num_frames=40)
    with open_video(content), pytest.raises(OversizedMediaError, match="more frames than the limit of 30; cut"):
        read_video(content)
