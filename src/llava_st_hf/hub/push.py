"""Sends a folder to the Hub in one commit; an upload that was cut goes on with the files that are not there yet."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx, validate_repo_id

from ..data.cards import DATASET_TAG
from ..processing import InputError
from ..utils.atomic_files import writing_whole
from .cards import MODEL_TAG, RESULTS_TAG
from .contents import ADAPTER_CONFIG, CARD_FILE, SPACE_APP, STATE_FOLDER, CardOptions, Contents, collect_contents
from .results import METRICS_FILE

# What tells that a repository holds something of a kind: files, of which it has one, and the tag of its card.
_SIGNS = {
    "model": (("config.json", "processor_config.json"), MODEL_TAG),
    "adapter": ((ADAPTER_CONFIG, "processor_config.json"), MODEL_TAG),
    "processor": (("config.json", ADAPTER_CONFIG, "processor_config.json"), MODEL_TAG),
    "dataset": ((CARD_FILE,), DATASET_TAG),
    "results": ((METRICS_FILE,), RESULTS_TAG),
    "space": ((SPACE_APP,), MODEL_TAG),
}
_EXCLUDED = {"model": ADAPTER_CONFIG, "adapter": "config.json"}  # a model and an adapter do not share a repository
_ALWAYS_THERE = (".gitattributes", CARD_FILE)
_REASONS = {
    401: "the token is not valid, run `hf auth login`",
    403: "the token may not write there, name a repository of yours or log in with one that may",
    409: "somebody else writes there now, run the same again",
    412: "somebody else wrote there meanwhile, run the same again",
    429: "the Hub asks for a pause, run the same again later",
}


def push_folder(
    folder: str | Path,
    options: CardOptions,
    public: bool = False,
    message: str | None = None,
    api: HfApi | None = None,
    with_state: bool = False,
) -> str:
    """
    Send a folder to the Hub: a model, an adapter, a data set, an evaluation or a Space, with its card, in one commit.

    Killed or cut at any moment and called again, it sends what the Hub lacks and ends with the same repository.

    Args:
        folder (`str` or `Path`): What `llava-st` wrote.
        options (`CardOptions`): Where to, and what the card says beside.
        public (`bool`, *optional*, defaults to `False`): Whether everybody may see it.
        message (`str`, *optional*): Of the commit.
        api (`huggingface_hub.HfApi`, *optional*): How to reach the Hub.
        with_state (`bool`, *optional*, defaults to `False`):
            Whether a checkpoint is sent with all that a training goes on from, see `fetch_checkpoint`.

    Returns:
        `str`: Address of the commit.

    Raises:
        `InputError`: If the folder is not whole, the repository holds something else, or the Hub refuses.

    Example:

    ```python
    >>> push_folder("outputs/custom_grounding_lora", CardOptions("me/kitchen-lora", base_model="me/llava-st-7b"))
    'https://huggingface.co/me/kitchen-lora/commit/8d3f...'
    ```
    """
    check_repository(options.repository)
    with collect_contents(folder, options) as contents:
        contents = contents.with_state(Path(folder)) if with_state else contents
        return send_contents(contents, options, public, message, api)


def fetch_checkpoint(repository: str, output_dir: str | Path, api: HfApi | None = None) -> Path | None:
    """
    Fetch the checkpoint that a stopped run left on the Hub into the folder of the run.

    Returns:
        `Path` or `None`: The checkpoint; `None` where the repository has none.

    Raises:
        `InputError`: If the Hub refuses.
    """
    api = HfApi() if api is None else api
    with hub_errors(repository):
        if not any(name.startswith(f"{STATE_FOLDER}/") for name in api.list_repo_files(repository)):
            return None
        snapshot = Path(api.snapshot_download(repository, allow_patterns=f"{STATE_FOLDER}/*"))
    step = json.loads((snapshot / STATE_FOLDER / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    checkpoint = Path(output_dir) / f"checkpoint-{step}"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with writing_whole(checkpoint) as temporary_path:
        shutil.copytree(snapshot / STATE_FOLDER, temporary_path)  # the cache has links
    return checkpoint


def check_repository(name: str) -> None:
    """Raise `InputError` for what is no name of a repository."""
    try:
        validate_repo_id(name)
        if name.count("/") != 1:
            raise HFValidationError("no owner")
    except HFValidationError as error:
        raise InputError(
            f"the repository is {name[:200]!r}: give ORGANIZATION/NAME, of letters a to z, digits, '-', '_' and '.'.",
            field="repository",
        ) from error


def prepare_repository(repository: str, repo_type: str, public: bool = False, api: HfApi | None = None) -> Any:
    """
    Make a repository, or look at the one that is there; done before hours go into writing files.

    Returns:
        `ModelInfo` or `DatasetInfo`: Its commit and its files.

    Raises:
        `InputError`: Without a login or the right to write, or if it is public though it should not be.
    """
    check_repository(repository)
    api = HfApi() if api is None else api
    with hub_errors(repository):
        sdk = "gradio" if repo_type == "space" else None
        api.create_repo(repository, repo_type=repo_type, private=not public, exist_ok=True, space_sdk=sdk)
        info = api.repo_info(repository, repo_type=repo_type)
    # One that exists keeps its visibility, whatever is asked for.
    if info.private == public:
        what, fix = ("private", "leave --public out") if public else ("public", "give --public")
        raise InputError(f"{repository} exists and is {what}: {fix}, change it on the Hub, or name another.")
    return info


def send_contents(
    contents: Contents,
    options: CardOptions,
    public: bool = False,
    message: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Send what was collected; see `push_folder`."""
    api = HfApi() if api is None else api
    repository, repo_type = options.repository, contents.repo_type
    if contents.kind == "adapter":
        config = contents.files[ADAPTER_CONFIG]
        content = json.loads(config if isinstance(config, bytes) else config.read_bytes())
        check_base(content["base_model_name_or_path"], content.get("revision"), public, api)
    info = prepare_repository(repository, repo_type, public, api)
    present = [file.rfilename for file in info.siblings]
    check_occupant(contents, repository, present, api)
    operations = [
        *(CommitOperationDelete(name) for name in present if contents.is_old(name)),
        *(CommitOperationAdd(name, content) for name, content in sorted(contents.files.items())),
    ]
    # Not `upload_folder`, which makes a commit of each part: nobody shall load half a model. What was stored before
    # a cut is not sent again, file by file, or with Xet piece by piece.
    with hub_errors(repository):
        commit = api.create_commit(
            repository,
            operations,
            commit_message=message or f"Upload {contents.kind}",
            repo_type=repo_type,
            parent_commit=info.sha,
        )
    return commit.commit_url


def check_base(base: str, revision: str | None, public: bool, api: HfApi) -> None:
    """Raise `InputError` where those who see an adapter could not load its base."""
    with hub_errors(f"the base {base}" + (f" at {revision}" if revision else "")):
        try:
            info = api.model_info(base, revision=revision)
        except RepositoryNotFoundError as error:
            raise InputError(
                f"the base {base!r} is no repository on the Hub that you may see: push it first, and name it.",
                field="base_model",
            ) from error
    if public and info.private:
        raise InputError(f"the base {base!r} is private, and the adapter is of no use without it: leave public out.")


def check_occupant(contents: Contents, repository: str, present: list[str], api: HfApi | None = None) -> None:
    """Raise `InputError` where a repository holds something else than what is sent."""
    api = HfApi() if api is None else api
    if not [name for name in present if name not in _ALWAYS_THERE]:
        return
    signs, tag = _SIGNS[contents.kind]
    fits = any(name in present for name in signs) and _EXCLUDED.get(contents.kind) not in present
    if fits and CARD_FILE in present:
        with hub_errors(repository):
            path = api.hf_hub_download(repository, CARD_FILE, repo_type=contents.repo_type)
        card = RepoCard(Path(path).read_text(encoding="utf-8"), ignore_metadata_errors=True)
        fits = tag in (card.data.to_dict().get("tags") or [])
    if not fits:
        raise InputError(
            f"{repository} holds other content ({', '.join(sorted(present)[:3])}): name another repository."
        )


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turn what the Hub or the way to it may raise into an `InputError` of one line."""
    try:
        yield
    except InputError:
        raise
    except LocalTokenNotFoundError as error:
        raise InputError(f"{repository} needs a login: run `hf auth login`, or set HF_TOKEN.") from error
    except OfflineModeIsEnabled as error:
        raise InputError(f"{repository} cannot be reached: HF_HUB_OFFLINE is set, unset it.") from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        status = error.response.status_code
        reason = _REASONS[401] if status == 401 else "it does not exist, or the token may not see it"
        raise InputError(f"{repository} cannot be used: {reason}.") from error
    except ValueError as error:  # what the Hub says of the metadata of a card
        raise InputError(f"{repository} was not sent: {' '.join(str(error).split())[:500]}") from error
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        is_upload = isinstance(error, RuntimeError) and error.__cause__ is not None
        reason = _explain_failure(error.__cause__ if is_upload else error)
        raise InputError(f"{repository} was not sent{reason}") from error


def _explain_failure(error: BaseException) -> str:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        known = "run the same again" if status >= 500 else (error.server_message or said)[:200]
        return f" (status {status}): {_REASONS.get(status, known)}."
    is_cut = isinstance(error, httpx.HTTPError | ConnectionError | TimeoutError)
    return f"{', the connection failed' if is_cut else ''} ({said}): run the same again, it goes on."
