"""The processor of a checkpoint in the published layout: its tokenizer under the names used here, and its config.

The published repository has no processor: its numbers are spread over `config.json`, the tokenizer, the tensors and
literals of the code. The config of the model collects them all, see `conversion_llava_st`.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi
from transformers import CONFIG_MAPPING, PreTrainedConfig, Qwen2Tokenizer
from transformers.utils import cached_file

from .media_llava_st import InputError
from .notation_llava_st import CoordinateVocabulary

PUBLISHED_AXES = {"TEMP": "t", "HEIGHT": "y", "WIDTH": "x"}
_PUBLISHED_COORDINATE = re.compile(r"<(TEMP|HEIGHT|WIDTH)-(\d+)>")
# Where the tokenizer may lie: beside the weights, or in a folder of its own.
_TOKENIZER_FOLDERS = ("", "tokenizer")
# Where transformers looks for settings beside these.
_SETTINGS_FOLDERS = (*_TOKENIZER_FOLDERS, "additional_chat_templates")
# What is read whole: JSON becomes twenty times its bytes. The largest tokenizer known has 33 million of them.
_SETTINGS = (".json", ".jinja", ".txt", ".model")
MAX_SETTINGS_BYTES = 36 * 10**6
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CACHED = ("config.json", "adapter_config.json", "processor_config.json", "tokenizer.json")


def check_settings_files(folder: str | os.PathLike, **hub_kwargs) -> None:
    """
    Check the size of the files of settings of a checkpoint, which are read whole and become many times their bytes.

    Args:
        folder (`str` or `os.PathLike`): Directory, or repository: of that what the Hub says before they are fetched,
            and what lies in the cache.
        hub_kwargs (`dict`, *optional*): As for `cached_file`.

    Raises:
        `InputError`: For one that is larger than any tokenizer.
    """
    if Path(folder).is_dir():
        sizes = _list_sizes(Path(folder, hub_kwargs.get("subfolder") or ""))
    else:
        sizes = [each for path in _find_cached(str(folder), hub_kwargs) for each in _list_sizes(path)]
        if _REPOSITORY.fullmatch(str(folder)) and not hub_kwargs.get("local_files_only"):
            with suppress(Exception):  # of many kinds, of the network, of rights, of names: who loads it says so
                sizes += _ask_sizes(str(folder), *map(hub_kwargs.get, ("revision", "subfolder", "token")))
    for name, num_bytes in sorted(sizes):
        if num_bytes > MAX_SETTINGS_BYTES:
            raise InputError(
                f"{name} of {folder} has {num_bytes:,} bytes, more than {MAX_SETTINGS_BYTES:,}: fetch it again."
            )


def _list_sizes(folder: Path) -> Iterator[tuple[str, int]]:
    for name in _SETTINGS_FOLDERS:
        for path in (folder / name).iterdir() if (folder / name).is_dir() else ():
            if path.suffix in _SETTINGS and path.is_file():
                yield path.name, path.stat().st_size


@lru_cache(maxsize=64)
def _ask_sizes(
    repository: str, revision: str | None, subfolder: str | None, token: str | bool | None
) -> tuple[tuple[str, int], ...]:
    """Ask the Hub for the sizes of all files at once."""
    info = HfApi(token=token).model_info(repository, revision=revision, files_metadata=True, timeout=10)
    folders = {PurePosixPath(subfolder or "", name) for name in _SETTINGS_FOLDERS}
    files = ((PurePosixPath(file.rfilename), file.size or 0) for file in info.siblings or ())
    return tuple((path.name, size) for path, size in files if path.parent in folders and path.suffix in _SETTINGS)


def _find_cached(repository: str, hub_kwargs: dict) -> set[Path]:
    """Return where files of a repository lie in the cache of the Hub, without asking the Hub."""
    if not _REPOSITORY.fullmatch(repository):
        return set()
    quiet = [f"_raise_exceptions_for_{what}" for what in ("gated_repo", "missing_entries", "connection_errors")]
    options = {**hub_kwargs, **dict.fromkeys(quiet, False), "local_files_only": True, "force_download": False}
    found = (cached_file(repository, name, **options) for name in _CACHED)
    return {Path(path).parent for path in found if path is not None}


def find_published_tokenizer(repository: str | Path, **hub_kwargs) -> str | None:
    """
    Return the folder of the tokenizer inside a published checkpoint, a directory or a repository ("" for itself).

    `None` when it is not laid out like the published one. `hub_kwargs` are as for `cached_file`.
    """

    def read_json(*parts: str) -> dict:
        name = str(PurePosixPath(*parts))
        path = cached_file(str(repository), name, _raise_exceptions_for_missing_entries=False, **hub_kwargs)
        return {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))

    if read_json("processor_config.json") or not read_json("config.json"):
        return None
    for folder in _TOKENIZER_FOLDERS:
        decoder = read_json(folder, "tokenizer_config.json").get("added_tokens_decoder", {})
        names = {*read_json(folder, "added_tokens.json"), *(token["content"] for token in decoder.values())}
        if not names:  # written by transformers 5, which keeps them here only
            names = {token["content"] for token in read_json(folder, "tokenizer.json").get("added_tokens", ())}
        if any(map(_PUBLISHED_COORDINATE.fullmatch, names)):
            return folder
    return None


def load_published_config(repository: str | Path, **hub_kwargs) -> PreTrainedConfig:
    """
    Load the config of a published checkpoint as `LlavaSTConfig`; a size that is missing or misfit is an `InputError`.
    """
    if "llava_st" not in CONFIG_MAPPING:
        raise InputError(f"{repository} has the published layout, which only the package reads: import llava_st_hf.")
    try:
        # Not `AutoConfig`: one of the two forms of the published config.json bears a name that transformers owns.
        return CONFIG_MAPPING["llava_st"].from_pretrained(repository, **hub_kwargs)
    except ValueError as error:
        raise InputError(str(error)) from error


def rename_published_token(name: str, vocabulary: dict[str, int]) -> str:
    """Return the name used here for a token of the published tokenizer, `vocabulary` being all its tokens."""
    if match := _PUBLISHED_COORDINATE.fullmatch(name):
        return CoordinateVocabulary.token(PUBLISHED_AXES[match[1]], int(match[2]))
    # Which ids stand for media does not matter to the model, all these positions are overwritten by features. A
    # tokenizer that already knows <image> (some of its ancestors do) keeps it.
    media = {"<im_patch>": "<image>", "<slow_vid_start>": "<video>"}
    return media[name] if name in media and media[name] not in vocabulary else name


def convert_published_tokenizer(repository: str | Path, folder: str = "", **hub_kwargs) -> Qwen2Tokenizer:
    """
    Load the published tokenizer with the token names of this project; every id stays what it was.

    Args:
        repository (`str` or `Path`): Local directory or name of a repository on the Hub.
        folder (`str`, *optional*, defaults to `""`): Where in it the tokenizer's files lie.
        hub_kwargs (`dict`, *optional*): `revision`, `cache_dir`, `token`, ... as for `cached_file`.

    Returns:
        `Qwen2Tokenizer`: With `<TEMP-012>` as `<t_12>`, `<HEIGHT-..>` as `<y_..>` and `<WIDTH-..>` as `<x_..>`, none
        of them special, and with `<image>` and `<video>`.

    Raises:
        `InputError`: When the tokenizer has no such tokens.

    Example:

    ```python
    >>> tokenizer = convert_published_tokenizer("LLaVA-ST-Qwen2-7B")
    >>> tokenizer.decode([tokenizer.convert_tokens_to_ids("<t_12>")], skip_special_tokens=True)
    '<t_12>'
    ```
    """
    subfolder = str(PurePosixPath(hub_kwargs.get("subfolder", ""), folder)).removeprefix(".")
    options = {**hub_kwargs, "subfolder": subfolder, "trust_remote_code": False}
    tokenizer = Qwen2Tokenizer.from_pretrained(repository, **options)
    vocabulary = tokenizer.get_added_vocab()
    if not any(map(_PUBLISHED_COORDINATE.fullmatch, vocabulary)):
        raise InputError(f"{repository} has no <TEMP-000>: it is not the tokenizer of a published LLaVA-ST.")
    with tempfile.TemporaryDirectory() as scratch:
        # tokenizers cannot rename a token in memory, but its file can be edited.
        tokenizer.save_pretrained(scratch)
        path = Path(scratch, "tokenizer.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        for token in content["added_tokens"]:
            if _PUBLISHED_COORDINATE.fullmatch(token["content"]):
                token["special"] = False
            token["content"] = rename_published_token(token["content"], vocabulary)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        converted = type(tokenizer).from_pretrained(scratch, trust_remote_code=False)
    converted.name_or_path = str(repository)
    return converted


__all__ = [
    "MAX_SETTINGS_BYTES",
    "PUBLISHED_AXES",
    "check_settings_files",
    "convert_published_tokenizer",
    "find_published_tokenizer",
    "load_published_config",
    "rename_published_token",
]
