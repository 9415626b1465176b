"""Addresses that media may be fetched from, and servers that would rather do something else."""

import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from PIL import Image
from video_files import encode

from llava_st_hf.processing.image_loading_llava_st import load_images, open_image
from llava_st_hf.processing.media_fetching_llava_st import FetchRules, fetch_media, is_public
from llava_st_hf.processing.media_llava_st import MediaError, OversizedMediaError
from llava_st_hf.processing.video_decoding_llava_st import probe_video, read_video
from llava_st_hf.processing.video_processing_llava_st import LlavaSTVideoProcessor


@pytest.fixture(scope="module")
def picture():
    Image.new("RGB", (8, 6), "red").save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(picture, tmp_path_factory):
    """A server on this machine: paths are what it does, asked paths are kept."""
    clip = encode(tmp_path_factory.mktemp("served") / "clip.mp4", num_frames=10).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            self.server.asked.append(self.path)
            if parts.path == "/to":
                self.send_response(302)
                self.send_header("Location", parts.query)
                self.end_headers()
                return
            self.send_response(404 if parts.path == "/missing" else 200)
            contents = {"/a.png": picture, "/clip.mp4": clip}
            if parts.path in contents:
                self.send_header("Content-Length", str(len(contents[parts.path])))
            if parts.path == "/claims":
                self.send_header("Content-Length", str(10**12))
            if parts.path == "/cut":
                self.send_header("Content-Length", "1000")
            self.end_headers()
            try:
                self.wfile.write(contents.get(parts.path, b"some"))
                while parts.path == "/endless":
                    self.wfile.write(bytes(2**16))
                while parts.path == "/slow" and not self.server.is_over:
                    self.wfile.write(b"x")
                    time.sleep(0.02)
            except OSError:
                pass  # whom it answers has hung up

        def log_message(self, *args):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.asked, served.is_over, served.daemon_threads = [], False, True
    threading.Thread(target=served.serve_forever, daemon=True).start()
    served.host = f"127.0.0.1:{served.server_port}"
    served.address = f"http://{served.host}"
    yield served
    served.is_over = True
    served.shutdown()


def allow(server, **rules):
    return {"hosts": [server.host], **rules}


def test_one_function_fetches_for_every_reader(server, picture):
    assert fetch_media(f"{server.address}/a.png", allow(server)) == picture
    image, clip = f"{server.address}/a.png", f"{server.address}/clip.mp4"
    assert open_image(image, allow(server)).size == (8, 6)
    assert load_images([image], allow(server))[1][0].source == image
    assert read_video(clip, num_frames=2, allow_url=allow(server)).total_num_frames == 10
    assert len(probe_video(clip, allow_url=allow(server)).timeline) == 10
    (frames,), _ = LlavaSTVideoProcessor(num_frames=2).decode_videos(
        [image, image], video_fps=1, allow_url=allow(server)
    )
    assert frames.shape[0] == 2


def test_a_redirect_is_followed_on_the_same_terms(server, picture):
    assert fetch_media(f"{server.address}/to?/a.png", allow(server)) == picture
    for target, words in (
        (f"http://localhost:{server.server_port}/a.png", "hosts"),
        (f"https://{server.host}/a.png", "is redirected to https://"),
        ("file:///etc/passwd", "is redirected to file://"),
        ("ftp://127.0.0.1/", "is redirected to ftp://"),
        (f"http://me:secret@{server.host}/a.png", "user name"),
        ("/to?/to?/to?/to?/to?/to?/to?/a.png", "redirected more than 5 times"),
    ):
        server.asked.clear()
        with pytest.raises(MediaError, match=words):
            fetch_media(f"{server.address}/to?{target}", allow(server))
        assert "/a.png" not in server.asked


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0.0.0.0", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.0.0.1", "192.168.1.1"),
        *("169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "[fe80::1]", "224.0.0.1"),
    ],
)
def test_hosts_that_are_not_public_are_not_asked(host, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda self, target: pytest.fail(f"asked {target}"))
    with pytest.raises(MediaError, match=r"no public address|cannot be fetched \(\[Errno -"):
        fetch_media(f"https://{host}/latest/meta-data/", True)


def test_public_hosts_are_told_from_others():
    assert is_public("8.8.8.8") and is_public("2001:4860:4860::8888") and is_public("::ffff:8.8.8.8")
    assert not is_public("::ffff:10.0.0.1") and not is_public("fe80::1%eth0")


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch):
    asked, connected = [], []

    def resolve(host, port, **options):
        asked.append(host)
        target = "8.8.8.8" if len(asked) == 1 else "127.0.0.1"  # a name that changes as soon as it was checked
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (target, port))]

    def connect(self, target):
        connected.append(target)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(MediaError, match=r"cannot be fetched \(refused\)"):
        fetch_media("https://rebind.example/a.png", True)
    assert asked == ["rebind.example"] and connected == [("8.8.8.8", 443)]


def test_one_private_address_of_a_name_is_enough(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (target, 443)) for target in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    monkeypatch.setattr(socket.socket, "connect", lambda self, target: pytest.fail(f"asked {target}"))
    with pytest.raises(MediaError, match=r"name.example is 10.0.0.1, which is no public address.*'hosts'"):
        fetch_media("https://name.example/a.png", True)


@pytest.mark.parametrize(
    "url, words",
    [
        ("http://example.org/a.png", r"only https:// is fetched.*'hosts': \['example.org'\]"),
        ("https://user:secret@example.org/a.png", "user name"),
        ("https:///a.png", "names no host"),
        ("https://example.org:99999999/a.png", "cannot be fetched"),
        ("https://[::1/a.png", "cannot be fetched"),
    ],
)
def test_addresses_that_are_refused_as_they_are_written(url, words, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: pytest.fail("resolved"))
    with pytest.raises(MediaError, match=words):
        fetch_media(url, True)


@pytest.mark.parametrize("path", ["endless", "claims"])
def test_a_file_has_a_limit(server, path):
    with pytest.raises(OversizedMediaError, match=r"larger than 1,000,000 bytes.*'max_bytes'"):
        open_image(f"{server.address}/{path}", allow(server, max_bytes=10**6))


def test_a_file_has_a_deadline(server):
    begin = time.monotonic()
    with pytest.raises(MediaError, match=r"takes longer than 0.3 s.*'deadline_seconds'"):
        read_video(f"{server.address}/slow", allow_url=allow(server, deadline_seconds=0.3))
    assert time.monotonic() - begin < 10  # it would never end


def test_names_are_resolved_within_the_deadline(monkeypatch):
    waiting = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: waiting.wait(60) and [])
    with pytest.raises(MediaError, match=r"takes longer than 0\.2 s"):
        fetch_media("https://name.example/a.png", {"deadline_seconds": 0.2})
    waiting.set()


def test_what_a_server_says_is_wrong(server):
    for path, words in (("missing", "answered with 404"), ("cut", "996 bytes are missing"), ("some", "as an image")):
        with pytest.raises(MediaError, match=words):
            open_image(f"{server.address}/{path}", allow(server))


@pytest.mark.parametrize(
    "rules, words",
    [
        ({"max_size": 3}, "allow_url has the key 'max_size': give max_bytes, deadline_seconds, hosts"),
        ({"max_bytes": "many"}, "max_bytes of allow_url is 'many'"),
        ({"deadline_seconds": 0}, "deadline_seconds of allow_url is 0"),
        ({"hosts": "example.org"}, "hosts of allow_url is 'example.org'"),
    ],
)
def test_limits_are_checked(rules, words):
    with pytest.raises(MediaError, match=words):
        fetch_media("https://example.org/a.png", rules)
    assert FetchRules.make(True) == FetchRules()
