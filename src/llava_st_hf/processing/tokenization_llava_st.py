"""The tokenizer: coordinate tokens for a new model, and the published tokenizer under the names used here.

Coordinate tokens are ordinary added tokens, not special ones: everything that decodes with `skip_special_tokens=True`
(pipelines, servers, `post_process_*`) would otherwise delete the answer.
"""

import json
import re
import tempfile
from pathlib import Path

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

from .media_llava_st import InputError
from .notation_llava_st import format_coordinate_token

PUBLISHED_AXES = {"TEMP": "t", "HEIGHT": "y", "WIDTH": "x"}
_PUBLISHED_COORDINATE = re.compile(r"<(TEMP|HEIGHT|WIDTH)-(\d+)>")


def list_coordinate_tokens(num_temporal_tokens: int, num_spatial_tokens: int) -> list[str]:
    """Return the names of all coordinate tokens in the order of their ids: time, height, width."""
    sizes = {"t": num_temporal_tokens, "y": num_spatial_tokens, "x": num_spatial_tokens}
    return [format_coordinate_token(axis, index) for axis, size in sizes.items() for index in range(size)]


def add_coordinate_tokens(
    tokenizer: PreTrainedTokenizerBase, num_temporal_tokens: int = 100, num_spatial_tokens: int = 100
) -> int:
    """
    Add the coordinate tokens at the end of a tokenizer, which is changed in place.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer of the language model.
        num_temporal_tokens (`int`, *optional*, defaults to 100): Number of time tokens.
        num_spatial_tokens (`int`, *optional*, defaults to 100): Number of tokens of the height, and of the width.

    Returns:
        `int`: The id of `<t_0>`, which is the config's `coordinate_token_offset`.

    Raises:
        `InputError`: When the tokenizer has some of these tokens at other places.

    Example:

    ```python
    >>> from transformers import AutoTokenizer
    >>> tokenizer = AutoTokenizer.from_pretrained("llava-hf/llava-onevision-qwen2-7b-ov-hf")
    >>> offset = add_coordinate_tokens(tokenizer)
    ```
    """
    names = list_coordinate_tokens(num_temporal_tokens, num_spatial_tokens)
    flags = {"special": False, "normalized": False, "lstrip": False, "rstrip": False}
    tokenizer.add_tokens([AddedToken(name, **flags) for name in names])
    return get_coordinate_token_offset(tokenizer, num_temporal_tokens, num_spatial_tokens)


def get_coordinate_token_offset(
    tokenizer: PreTrainedTokenizerBase, num_temporal_tokens: int, num_spatial_tokens: int
) -> int:
    """
    Return the id of `<t_0>` after checking that all coordinate tokens follow it.

    Raises:
        `InputError`: When a token is missing, or the ids are not consecutive in the order time, height, width.
    """
    names = list_coordinate_tokens(num_temporal_tokens, num_spatial_tokens)
    ids = tokenizer.convert_tokens_to_ids(names)
    missing = [name for name, token_id in zip(names, ids, strict=True) if token_id in (None, tokenizer.unk_token_id)]
    if missing:
        raise InputError(
            f"the tokenizer lacks {len(missing)} coordinate tokens ({missing[0]} first): add them with "
            f"add_coordinate_tokens(tokenizer, {num_temporal_tokens}, {num_spatial_tokens})."
        )
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise InputError(
            f"the coordinate tokens do not have consecutive ids from {ids[0]} in the order t, y, x: start from a "
            "tokenizer without coordinate tokens."
        )
    return ids[0]


def add_media_tokens(
    tokenizer: PreTrainedTokenizerBase, image_token: str = "<image>", video_token: str = "<video>"
) -> None:
    """Add the placeholders of images and videos that a tokenizer does not have yet; it is changed in place."""
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in (image_token, video_token)])


def is_published_vocabulary(added_tokens: dict[str, int]) -> bool:
    """Return whether the added tokens (name to id) are those of the published checkpoint."""
    return any(_PUBLISHED_COORDINATE.fullmatch(name) for name in added_tokens)


def count_coordinate_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Return how many time tokens and how many height (and width) tokens a tokenizer has."""
    names = tokenizer.get_added_vocab()
    counts = {axis: sum(bool(re.fullmatch(rf"<{axis}_\d+>", name)) for name in names) for axis in "tyx"}
    if counts["y"] != counts["x"]:
        raise InputError(
            f"the tokenizer has {counts['y']} height tokens and {counts['x']} width tokens: both must be as many."
        )
    return counts["t"], counts["y"]


def rename_published_token(name: str, vocabulary: dict[str, int]) -> str:
    """Return the name used here for a token of the published tokenizer, `vocabulary` being all its tokens."""
    if match := _PUBLISHED_COORDINATE.fullmatch(name):
        return format_coordinate_token(PUBLISHED_AXES[match[1]], int(match[2]))
    # Which ids stand for media does not matter to the model, all these positions are overwritten by features. A
    # tokenizer that already knows <image> (some of its ancestors do) keeps it.
    media = {"<im_patch>": "<image>", "<slow_vid_start>": "<video>"}
    return media[name] if name in media and media[name] not in vocabulary else name


def convert_published_tokenizer(tokenizer_dir: str | Path, **kwargs) -> Qwen2Tokenizer:
    """
    Load the published tokenizer with the token names of this project; every id stays what it was.

    Args:
        tokenizer_dir (`str` or `Path`): Directory with the tokenizer's files, or the repository on the Hub.
        kwargs (`dict`, *optional*): Passed to `from_pretrained`, for example `subfolder` and `revision`.

    Returns:
        `Qwen2Tokenizer`: With `<TEMP-012>` as `<t_12>`, `<HEIGHT-..>` as `<y_..>` and `<WIDTH-..>` as `<x_..>`, none
        of them special, and with `<image>` and `<video>`.

    Raises:
        `InputError`: When the tokenizer has no such tokens, or not at consecutive ids.

    Example:

    ```python
    >>> tokenizer = convert_published_tokenizer("LLaVA-ST-Qwen2-7B")
    >>> tokenizer.decode([tokenizer.convert_tokens_to_ids("<t_12>")], skip_special_tokens=True)
    '<t_12>'
    ```
    """
    tokenizer = Qwen2Tokenizer.from_pretrained(tokenizer_dir, **kwargs)
    vocabulary = tokenizer.get_added_vocab()
    if not is_published_vocabulary(vocabulary):
        raise InputError(f"{tokenizer_dir} has no <TEMP-000>: it is not the tokenizer of a published LLaVA-ST.")
    with tempfile.TemporaryDirectory() as folder:
        # tokenizers cannot rename a token in memory, but its file can be edited.
        tokenizer.save_pretrained(folder)
        path = Path(folder, "tokenizer.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        for token in content["added_tokens"]:
            if _PUBLISHED_COORDINATE.fullmatch(token["content"]):
                token["special"] = False
            token["content"] = rename_published_token(token["content"], vocabulary)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        converted = type(tokenizer).from_pretrained(folder)
    converted.name_or_path = str(tokenizer_dir)
    get_coordinate_token_offset(converted, *count_coordinate_tokens(converted))
    return converted


def require_token(tokenizer: PreTrainedTokenizerBase, token: str, argument: str) -> int:
    """Return the id of a token that an argument of the processor relies on."""
    token_id = tokenizer.convert_tokens_to_ids(token)
    if token_id is None or token_id == tokenizer.unk_token_id:
        raise InputError(f"{argument} needs the token {token}, which the tokenizer lacks: add it to the tokenizer.")
    return token_id


__all__ = [
    "add_coordinate_tokens",
    "add_media_tokens",
    "convert_published_tokenizer",
    "count_coordinate_tokens",
    "get_coordinate_token_offset",
    "is_published_vocabulary",
    "list_coordinate_tokens",
    "rename_published_token",
    "require_token",
]
