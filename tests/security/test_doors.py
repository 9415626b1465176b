"""Every door that takes the name of a file, with names that lead elsewhere, never end, or are no names."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hostile_process import check_refused, run_commands

from llava_st_hf import GroundingResult, InputError
from llava_st_hf.data import Mixture, MixtureSpec
from llava_st_hf.data.readers.registry import open_reader
from llava_st_hf.processing.grounding_results_llava_st import Caption
from llava_st_hf.processing.media_fetching_llava_st import fetch_media
from llava_st_hf.processing.media_llava_st import MediaError


def make_names(folder: Path) -> dict[str, Path]:
    """Names of files that are none: each is to be refused, and nothing waited for."""
    os.mkfifo(folder / "pipe")
    (folder / "empty").mkdir()
    names = {"zero": "/dev/zero", "fifo": folder / "pipe", "memory": "/proc/self/mem", "loop": folder / "loop.a"}
    links = {name: folder / f"{name}.link" for name in names}
    for name, link in links.items():
        link.symlink_to(names[name])
    (folder / "loop.a").symlink_to(links["loop"])
    return {**links, "long": folder / ("x" * 300), "folder": folder / "empty", "null": Path("/dev/null")}


def list_doors(name: Path, folder: Path) -> list[list[object]]:
    """The commands that take a file, each with its usual ending where the ending decides how it is read."""
    ends = {}
    for ending in (".jsonl", ".json", ".csv", ".yaml", ".mp4", ".png", ".parquet", ".xml"):
        ends[ending] = folder / f"{name.name[:40]}{ending}"
        if not ends[ending].is_symlink():
            ends[ending].symlink_to(name)
    run = folder / f"run_{name.name[:40]}"
    if not run.exists():
        run.mkdir()
        for file in ("run.json", "predictions.jsonl", "metrics.json", "config.json", "adapter_config.json"):
            (run / file).symlink_to(name)
    annotations = folder / "records.jsonl"
    return [
        ["ground", ends[".mp4"], "it"],
        ["ground", ends[".png"], "it"],
        ["ground", "clip.mp4", "--queries", name],
        ["info", "--model", run],
        ["merge", run, "--to", folder / "merged"],
        ["init", folder / "made", "--base", run],
        ["convert", run, folder / "made"],
        ["push", run, "me/x", "--dry-run"],
        ["compare", run, run],
        ["compare", ends[".jsonl"], ends[".csv"], "--annotations", annotations],
        ["evaluate", annotations, "--data", folder, "--predictions", ends[".jsonl"]],
        ["evaluate", annotations, "--data", folder, "--predictions", ends[".csv"], "--predictions-format", "vue_csv"],
        ["evaluate", ends[".json"], "--data", folder, "--predictions", annotations],
        ["export-answers", ends[".json"], "--to", "webvtt"],
        ["export-answers", ends[".jsonl"], "--to", "cvat_video"],
        *(["data", "check", ends[ending]] for ending in (".jsonl", ".json", ".csv", ".yaml", ".parquet", ".xml")),
        ["data", "show", ends[".jsonl"], "1"],
        ["data", "convert", ends[".csv"], folder / "out.jsonl"],
        ["train", ends[".yaml"], "--dry-run"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero", "fifo", "memory", "loop", "long", "folder", "null"])
def test_no_door_waits_for_what_is_no_file(kind, clip, tmp_path):
    shutil.copy(clip, tmp_path / "clip.mp4")
    record = {"id": "1", "video": "clip.mp4", "query": "it", "span_seconds": [0, 1]}
    (tmp_path / "records.jsonl").write_text(json.dumps(record) + "\n")
    commands = list_doors(make_names(tmp_path)[kind], tmp_path)
    for command, ended in zip(commands, run_commands(commands, tmp_path), strict=True):
        assert ended.code == 1, (command, ended)
        check_refused(ended)


OUTSIDE = [
    "../secret.mp4",
    "link.mp4",
    "folder/secret.mp4",
    "/etc/passwd",
    "//etc/passwd",
    "/dev/zero",
    "/proc/self/environ",
    "folder/../../secret.mp4",
    # As Windows writes paths.
    "..\\secret.mp4",
    "folder\\..\\..\\secret.mp4",
    "\\\\host\\x.mp4",
]
NO_NAMES = [
    ("..%2fsecret.mp4", "missing_media"),
    ("file:///etc/passwd", "network_media"),
    ("file://host/etc/passwd", "network_media"),
    ("https://127.0.0.1/x.mp4", "network_media"),
    ("data:video/mp4;base64,AAAA", "network_media"),
    ("concat:a|b", "network_media"),
    ("pipe:0", "network_media"),
    ("subfile,,start,0,end,1,,:/etc/passwd", "missing_media"),
    ("-i", "missing_media"),
    ("~/x.mp4", "missing_media"),
    ("$HOME/x.mp4", "missing_media"),
    ("CON.mp4", "missing_media"),
    ("a\u202egpj.mp4", "missing_media"),
    ("\x1b[2J.mp4", "missing_media"),
    ("a\0b.mp4", "invalid_field"),
    ("x" * 5_000, "invalid_field"),
    ("\ud800.mp4", "invalid_field"),
    ("", "invalid_field"),
    (".", "empty_media"),
]


def test_media_of_records_lie_in_their_folder(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "folder").symlink_to(tmp_path)
    names = [*((name, "outside_root") for name in OUTSIDE), *NO_NAMES]
    lines = [json.dumps({"id": name[:9], "video": name, "query": "it", "span_seconds": [0, 1]}) for name, _ in names]
    (root / "records.jsonl").write_text("\n".join(lines))
    reader = open_reader("user_jsonl", root / "records.jsonl", "s", str(root))
    assert [(name, reader[index].reason) for index, (name, _) in enumerate(names)] == names
    for index in range(len(names)):
        assert all(character.isprintable() for character in reader[index].detail)


@pytest.mark.parametrize("name", ["a\ud800\udc00b", "a\0b"])
@pytest.mark.parametrize("key", ["json_path", "data_folder", "id"])
def test_what_cannot_be_a_name_is_refused_where_settings_give_it(key, name, tmp_path):
    (tmp_path / "records.jsonl").write_text('{"video": "clip.mp4", "query": "it", "span_seconds": [0, 1]}')
    given = {"json_path": str(tmp_path / "records.jsonl"), "data_folder": str(tmp_path)} if key != "id" else {}
    with pytest.raises(InputError, match=r"a\\.*b"):
        Mixture(MixtureSpec.from_dict({"datasets": [{**given, key: name}]}))


PRIVATE = [
    *("2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0.0.0.0", "localhost", "\u24dbocalhost", "10.0.0.1"),
    *("169.254.169.254", "168.63.129.16", "100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    *("[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fd00::1]", "[64:ff9b::7f00:1]"),
    *("[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]"),
]


@pytest.mark.parametrize("host", PRIVATE)
def test_no_writing_of_a_private_address_is_asked(host):
    with pytest.raises(MediaError, match="which is no public address"):
        fetch_media(f"https://{host}/x.png", {"deadline_seconds": 10})


@pytest.mark.parametrize(
    "url",
    [
        "https://me@1.2.3.4/",
        "https://127.0.0.1:80@1.2.3.4/",
        "https:///x",
        "https://",
        "https://1.2.3.4:99999/",
        "https://[::1",
        "https://a b/",
        "https://a\r\nHost: b/",
        f"https://{'a' * 300}/",
        "ftp://1.2.3.4/",
        "gopher://x/",
        "file:///etc/passwd",
    ],
)
def test_addresses_that_are_none_are_an_error_of_one_line(url):
    with pytest.raises(MediaError) as caught:
        fetch_media(url, {"deadline_seconds": 10})
    assert str(caught.value).isprintable()


def test_pages_of_answers_hold_no_markup_of_others():
    text = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    page = GroundingResult(text, query=text, captions=(Caption(text),))._repr_html_()
    assert "<script>alert" not in page and "<img src=x" not in page
