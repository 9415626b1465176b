import errno
import os
import stat

import pytest

from llava_st_hf.utils.atomic_files import (
    is_leftover,
    move_whole,
    remove_leftovers,
    write_json_whole,
    write_text_whole,
    writing_whole,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_text("old")
    with writing_whole(path) as temporary_path:
        assert temporary_path.suffix == ".mp4"  # encoders choose the container by it
        assert temporary_path.parent == tmp_path
        temporary_path.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["clip.mp4"]


def test_after_an_error_nothing_has_changed(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), writing_whole(path) as temporary_path:
        temporary_path.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["clip.mp4"]
    with pytest.raises(OSError, match="nothing was written"), writing_whole(tmp_path / "model") as temporary_path:
        temporary_path.mkdir()
        (temporary_path / "config.json").write_text("{}")
        raise OSError("nothing was written")
    assert names(tmp_path) == ["clip.mp4"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "model"
    (path / "old").mkdir(parents=True)
    with writing_whole(path) as temporary_path:
        (temporary_path / "code").mkdir(parents=True)
        (temporary_path / "code" / "a.py").write_text("1")
    assert names(path) == ["code"]
    assert names(tmp_path) == ["model"]


def test_leftovers_of_a_kill_are_known_by_their_names(tmp_path):
    contexts = []  # kept open, as in a process that is killed now
    for name in ("model-00001-of-00002.safetensors", "folder", "x" * 250):
        contexts.append(writing_whole(tmp_path / name))
        temporary_path = contexts[-1].__enter__()
        assert is_leftover(temporary_path)
        if name == "folder":
            temporary_path.mkdir()
            temporary_path = temporary_path / "a"
        temporary_path.write_text("half")
    for name in (".hidden", "a.partial", ".a.partial"):
        (tmp_path / name).write_text("mine")
        assert not is_leftover(tmp_path / name)
    assert len(names(tmp_path)) == 6
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".a.partial", ".hidden", "a.partial"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "usual").write_text("x")
    write_text_whole(tmp_path / "whole", "x")
    mode = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "whole").stat().st_mode) == mode


def test_text_and_json(tmp_path):
    write_text_whole(tmp_path / "a.txt", "na\u00efve\n")
    assert (tmp_path / "a.txt").read_bytes() == "na\u00efve\n".encode()
    write_json_whole(tmp_path / "a.json", {"a": [1, 2.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1,\n    2.5\n  ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json_whole(tmp_path / "a.json", float("nan"))
    assert names(tmp_path) == ["a.json", "a.txt"]


def test_move(tmp_path):
    (tmp_path / "a").write_text("1")
    move_whole(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["b"]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"), writing_whole(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())
