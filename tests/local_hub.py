"""A Hub on this machine, in memory: it answers what huggingface_hub and datasets ask of the real one; fails on demand.

It speaks the classic LFS path: what is sent to it is sent with `HF_HUB_DISABLE_XET=1`. Libraries read `HF_ENDPOINT`
when they are imported, so what loads from here runs in a process of its own, with `LocalHub.environment`.
"""

import base64
import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import RLock, Thread
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

TOKEN, USER = "hf_of_me", "me"
_LFS_SUFFIXES = (".safetensors", ".parquet", ".bin", ".png", ".mp4")
_LFS_BYTES = 10**6
_KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_REPO_ID = r"(?P<id>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>models|datasets|spaces)/{_REPO_ID}"
_RESOLVE = rf"/(?:(?P<kind>datasets|spaces)/)?{_REPO_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
_LFS = rf"/(?:(?P<kind>datasets|spaces)/)?{_REPO_ID}\.git/info/lfs/objects/batch"


@dataclass
class Fault:
    """
    What goes wrong with requests that fit a pattern.

    Args:
        pattern (`str`): Regular expression, searched for in `"METHOD /path"`.
        status (`int`, *optional*): The answer. Without one the connection is cut in the middle.
        times (`int`, *optional*): How often; always by default.
        skip (`int`, *optional*, defaults to 0): Requests that fit and go well before.
        seconds (`float`, *optional*): How much later the true answer comes, in place of all that.
        code (`str`, *optional*): `X-Error-Code` of the answer.
        does (`bool`, *optional*, defaults to `False`): Whether a cut comes after all is done: the answer is lost.
    """

    pattern: str
    status: int | None = None
    times: int | None = None
    skip: int = 0
    seconds: float | None = None
    code: str | None = None
    does: bool = False

    def strikes(self, request: str) -> bool:
        """Tell whether this request is hit, and count it."""
        if not re.search(self.pattern, request) or self.times == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class Repository:
    """The commits of a repository: for each its files, by their paths."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    lfs: set[str] = field(default_factory=set)  # digests of what came as LFS

    def __post_init__(self):
        self.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Add a commit that has these files and no others."""
        text = repr((len(self.commits), sorted((path, hash_file(content)) for path, content in files.items())))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits.append((sha, dict(files)))
        return sha

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit of a branch or a name."""
        if revision in ("main", "HEAD"):
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)

    def describe(self, path: str, content: bytes) -> dict:
        """Return the entry of a file in a list of files."""
        entry = {"type": "file", "path": path, "size": len(content), "oid": hash_blob(content)}
        digest = hash_file(content)
        if digest in self.lfs:
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry


class LocalHub:
    """
    The server.

    Attributes:
        repositories (`dict[tuple[str, str], Repository]`): By kind (`"model"`, `"dataset"`) and name.
        requests (`list[str]`): `"METHOD /path"` of all that was asked.
        faults (`list[Fault]`): What goes wrong; the first that fits counts.

    Example:

    ```python
    >>> with LocalHub() as hub:
    ...     HfApi(endpoint=hub.url, token=TOKEN).create_repo("me/model")
    ```
    """

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.bytes_by_mark: Counter[str] = Counter()
        self._mark = ""
        self.faults: list[Fault] = []
        self.lock = RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LocalHub":
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, pattern: str, status: int | None = None, **options) -> Fault:
        """Let requests fail; see `Fault`."""
        self.faults.append(Fault(pattern, status, **options))
        return self.faults[-1]

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.faults.clear()

    def add(self, name: str, files: Mapping[str, bytes], kind: str = "model") -> None:
        """Put a repository there, as if somebody had pushed it."""
        repository = self.repositories[kind, name] = Repository(private=True)
        repository.lfs |= {hash_file(content) for path, content in files.items() if path.endswith(_LFS_SUFFIXES)}
        repository.commit(files)

    def count(self) -> Counter[str]:
        """Return how many requests there were of each kind, and forget them."""
        with self.lock:
            # Asked once by each process, and of no use.
            counts = Counter(summarize(request) for request in self.requests if "agent-harnesses" not in request)
            self.requests.clear()
        return counts

    def get_files(self, name: str, kind: str = "model") -> dict[str, bytes]:
        """Return the files of a repository as they are now."""
        return dict(self.repositories[kind, name].commits[-1][1])

    @contextmanager
    def reached(self, cache: Path) -> Iterator[None]:
        """Let this process send to this Hub, and to no other. What loads has read the address when it was imported."""
        huggingface_hub.close_session()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (
                ("ENDPOINT", self.url),
                ("HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"),
                ("HF_HUB_DISABLE_XET", True),
                ("HF_HUB_CACHE", str(cache)),
                ("HF_TOKEN_PATH", str(cache / "no token")),
            ):
                patch.setattr(constants, name, value)
            patch.setenv("HF_TOKEN", TOKEN)
            patch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
            # Between attempts the client waits for seconds.
            patch.setattr(_http, "time", SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None}))
            yield
        huggingface_hub.close_session()

    def count_by_mark(self) -> dict[str, Counter[str]]:
        """Return the requests of each kind between marks, `GET /mark/NAME`, and forget them."""
        with self.lock:
            requests, self.requests = self.requests, []
        counts: dict[str, Counter[str]] = {}
        for request in requests:
            if request.startswith("GET /mark/"):
                counts[name := request.rsplit("/", 1)[1]] = Counter()
            elif counts and "agent-harnesses" not in request:
                counts[name][summarize(request)] += 1
        return counts

    def environment(self, cache: Path, **more: str) -> dict[str, str]:
        """Return the environment of a process that knows this Hub and no other."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
        return own | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # by datasets, at another address
            "OMP_NUM_THREADS": "1",
            **more,
        }


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> LocalHub:
        return self.server.hub

    def log_message(self, *_) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # those who asked may have gone
            super().handle()

    def _answer(self) -> None:
        # Left by the request before this one, on the same connection.
        self._is_cut = False
        url = urlsplit(self.path)
        path = unquote(url.path)
        request = f"{self.command} {path}"
        with self.hub.lock:
            self.hub.requests.append(request)
            fault = next((fault for fault in self.hub.faults if fault.strikes(request)), None)
        is_cut = fault is not None and fault.status is None and fault.seconds is None
        body = self._read_body(half=is_cut and not fault.does)
        if fault is not None and fault.seconds is not None:
            time.sleep(fault.seconds)
        elif fault is not None and fault.status is not None:
            headers = {"X-Error-Code": fault.code} if fault.code else {}
            return self._send(fault.status, {"error": f"status {fault.status} on demand"}, headers)
        elif fault is not None:
            self._is_cut = True
            if self.command != "GET" and not fault.does:
                return self._hang_up()
        for pattern, methods, answer in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in methods:
                with self.hub.lock:
                    reply = answer(self, match, body, parse_qs(url.query))
                return self._send(*reply) if reply is not None else None
        return self._send(404, {"error": "no such page"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _read_body(self, half: bool) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
                if half:
                    break
            else:
                self.rfile.readline()
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length // 2 if half else length)

    def _send(self, status: int, content: object = b"", headers: Mapping[str, str] = {}) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        if not isinstance(content, bytes):
            self.send_header("Content-Type", "application/json")
        if isinstance(content, dict) and "error" in content:
            self.send_header("X-Error-Message", content["error"])
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.startswith("/mark/"):
            self.hub._mark = self.path.removeprefix("/mark/")
        if self.command == "GET":
            self.hub.bytes_by_mark[self.hub._mark] += len(body)
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if self._is_cut else body)
        if self._is_cut:
            self.wfile.flush()
            self._hang_up()

    # What is asked ---------------------------------------------------------------------------------------------

    def _get_user(self) -> str | None:
        return USER if self.headers.get("Authorization") == f"Bearer {TOKEN}" else None

    def _find(self, match: re.Match, writes: bool = False) -> Repository | tuple:
        """Return a repository, or why it is not to be had."""
        kind = _KINDS.get(match["kind"] or "models", "model")
        repository = self.hub.repositories.get((kind, match["id"]))
        if repository is None or (repository.private and self._get_user() is None):
            status = 404 if self._get_user() else 401
            return status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        if writes and self._get_user() is None:
            return 401, {"error": "Invalid username or password."}
        if writes and not match["id"].startswith(f"{USER}/"):
            return 403, {"error": "Forbidden: you must use a write token for this repository."}
        return repository

    def whoami(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if self._get_user() is None:
            return 401, {"error": "Invalid username or password."}
        return 200, {"name": USER, "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    def create(self, match: re.Match, body: bytes, query: dict) -> tuple:
        asked = json.loads(body)
        if self._get_user() is None:
            return 401, {"error": "Invalid username or password."}
        owner = asked.get("organization") or USER
        name, kind = f"{owner}/{asked['name']}", asked.get("type") or "model"
        reply = {"url": f"{self.hub.url}/{'' if kind == 'model' else kind + 's/'}{name}", "name": name}
        if (kind, name) in self.hub.repositories:
            return 409, {"error": "You already created this repository", **reply}
        if owner != USER:
            return 403, {"error": f"You don't have the rights to create a {kind} under the namespace {owner!r}"}
        self.hub.repositories[kind, name] = Repository(
            asked.get("private") is True or asked.get("visibility") == "private"
        )
        return 200, reply

    def validate(self, match: re.Match, body: bytes, query: dict) -> tuple:
        return 200, {"errors": [], "warnings": []}

    def preupload(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if not isinstance(repository := self._find(match, writes=True), Repository):
            return repository
        known, files = repository.commits[-1][1], []
        for item in json.loads(body)["files"]:
            path, content = item["path"], known.get(item["path"])
            mode = "lfs" if path.endswith(_LFS_SUFFIXES) or item["size"] > _LFS_BYTES else "regular"
            oid = None
            if content is not None:
                oid = hash_file(content) if mode == "lfs" else hash_blob(content)
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": files}

    def batch(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if not isinstance(repository := self._find(match, writes=True), Repository):
            return repository
        objects = []
        for item in json.loads(body)["objects"]:
            href = f"{self.hub.url}/lfs-storage/{item['oid']}"
            actions = {} if item["oid"] in self.hub.objects else {"actions": {"upload": {"href": href, "header": {}}}}
            objects.append({**item, **actions})
        return 200, {"transfer": "basic", "objects": objects}

    def store(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if hash_file(body) != match["oid"]:
            return 400, {"error": "these bytes have another digest"}
        self.hub.objects[match["oid"]] = body
        return 200, b""

    def commit(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if not isinstance(repository := self._find(match, writes=True), Repository):
            return repository
        head, files = repository.commits[-1]
        files = dict(files)
        for line in filter(None, body.split(b"\n")):
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header" and value.get("parentCommit") not in (None, head):
                return 412, {"error": "A commit has happened since. Please refresh and try again."}
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return 400, {"error": f"{value['path']} was not uploaded"}
                files[value["path"]] = self.hub.objects[value["oid"]]
                repository.lfs.add(value["oid"])
            elif key == "deletedFile":
                files.pop(value["path"], None)
            elif key == "deletedFolder":
                files = {path: files[path] for path in files if not path.startswith(value["path"].rstrip("/") + "/")}
        sha = repository.commit(files)
        return 200, {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{match['id']}/commit/{sha}"}

    def info(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if not isinstance(repository := self._find(match), Repository):
            return repository
        if (found := repository.find(match["revision"] or "main")) is None:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        sha, files = found
        siblings = [{"rfilename": path, "size": len(files[path])} for path in sorted(files)]
        facts = {"id": match["id"], "sha": sha, "private": repository.private, "siblings": siblings, "gated": False}
        return 200, {**facts, "lastModified": "2026-01-01T00:00:00.000Z", "tags": [], "disabled": False}

    def tree(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if not isinstance(repository := self._find(match), Repository):
            return repository
        if (found := repository.find(match["revision"])) is None:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        folder = f"{match['path'].strip('/')}/" if match["path"] else ""
        inside = {path: content for path, content in found[1].items() if path.startswith(folder)}
        if folder and not inside:
            return 404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found[0]}
        is_recursive = query.get("recursive") in (["true"], ["True"], ["1"])
        entries, folders = [], set()
        for path, content in sorted(inside.items()):
            parents = path.removeprefix(folder).split("/")[:-1]
            folders |= {folder + "/".join(parents[: depth + 1]) for depth in range(len(parents))}
            if is_recursive or not parents:
                entries.append(repository.describe(path, content))
        shown = [name for name in sorted(folders) if is_recursive or "/" not in name.removeprefix(folder)]
        return 200, [*({"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in shown), *entries]

    def paths_info(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if not isinstance(repository := self._find(match), Repository):
            return repository
        if (found := repository.find(match["revision"])) is None:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        is_json = "json" in self.headers.get("Content-Type", "")
        asked = json.loads(body)["paths"] if is_json else parse_qs(body.decode())["paths"]
        entries = []
        for path in [asked] if isinstance(asked, str) else asked:
            if path in found[1]:
                entries.append(repository.describe(path, found[1][path]))
            elif any(name.startswith(f"{path}/") for name in found[1]):
                entries.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        return 200, entries

    def refs(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if not isinstance(repository := self._find(match), Repository):
            return repository
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.commits[-1][0]}
        return 200, {"branches": [branch], "tags": [], "converts": []}

    def resolve(self, match: re.Match, body: bytes, query: dict) -> tuple:
        if not isinstance(repository := self._find(match), Repository):
            return repository
        if (found := repository.find(match["revision"])) is None:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        sha, files = found
        if (content := files.get(match["path"])) is None:
            return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
        digest = hash_file(content)
        etag = digest if digest in repository.lfs else hash_blob(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return 200, content, headers
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        if first > last:
            return 416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"}
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return 206, content[first : last + 1], headers


_ROUTES = (
    (r"/mark/.*", ("GET",), lambda *_: (200, b"")),
    (r"/api/whoami-v2", ("GET",), _Handler.whoami),
    (r"/api/repos/create", ("POST",), _Handler.create),
    (r"/api/validate-yaml", ("POST",), _Handler.validate),
    (_API + r"/preupload/(?P<revision>.+)", ("POST",), _Handler.preupload),
    (_LFS, ("POST",), _Handler.batch),
    (r"/lfs-storage/(?P<oid>[0-9a-f]{64})", ("PUT",), _Handler.store),
    (_API + r"/commit/(?P<revision>.+)", ("POST",), _Handler.commit),
    (_API + r"(?:/revision/(?P<revision>.+))?", ("GET",), _Handler.info),
    (_API + r"/tree/(?P<revision>[^/]+)/?(?P<path>.*)", ("GET",), _Handler.tree),
    (_API + r"/paths-info/(?P<revision>.+)", ("POST",), _Handler.paths_info),
    (_API + r"/refs", ("GET",), _Handler.refs),
    (_RESOLVE, ("GET", "HEAD"), _Handler.resolve),
)


def read_stated_requests(row: str) -> int:
    """Return how many requests docs/hub.md says that something takes."""
    text = (Path(__file__).parents[1] / "docs" / "hub.md").read_text(encoding="utf-8")
    (number,) = re.findall(rf"^\| {re.escape(row)} \| (\d+) \|$", text, flags=re.MULTILINE)
    return int(number)


def summarize(request: str) -> str:
    """Return the kind of a request: its method, and what it asks for without names."""
    method, path = request.split(" ", 1)
    for word in ("resolve", "tree", "preupload", "commit", "paths-info", "refs", "lfs-storage", "objects/batch"):
        if f"/{word}" in path:
            return f"{method} {word}"
    return f"{method} {'info' if re.fullmatch(_API + '(/revision/.+)?', path) else path.removeprefix('/api/')}"


def hash_file(content: bytes) -> str:
    """Return the digest by which LFS knows a file."""
    return hashlib.sha256(content).hexdigest()


def hash_blob(content: bytes) -> str:
    """Return the digest by which git knows a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
