"""The tokenizer: the tokens that a new model adds to that of its language model.

Coordinate tokens are ordinary added tokens, not special ones: everything that decodes with `skip_special_tokens=True`
(pipelines, servers, `post_process_*`) would otherwise delete the answer.
"""

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from .media_llava_st import InputError
from .notation_llava_st import CoordinateVocabulary


def add_coordinate_tokens(
    tokenizer: PreTrainedTokenizerBase, num_temporal_tokens: int = 100, num_spatial_tokens: int = 100
) -> CoordinateVocabulary:
    """
    Add the coordinate tokens at the end of a tokenizer, which is changed in place.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer of the language model.
        num_temporal_tokens (`int`, *optional*, defaults to 100): Number of time tokens.
        num_spatial_tokens (`int`, *optional*, defaults to 100): Number of tokens of the height, and of the width.

    Returns:
        `CoordinateVocabulary`: Its `offset`, the id of `<t_0>`, is the config's `coordinate_token_offset`.

    Raises:
        `InputError`: When the tokenizer has some of these tokens at other places.

    Example:

    ```python
    >>> from transformers import AutoTokenizer
    >>> tokenizer = AutoTokenizer.from_pretrained("llava-hf/llava-onevision-qwen2-7b-ov-hf")
    >>> offset = add_coordinate_tokens(tokenizer).offset
    ```
    """
    names = CoordinateVocabulary(num_temporal_tokens, num_spatial_tokens).tokens
    flags = {"special": False, "normalized": False, "lstrip": False, "rstrip": False}
    tokenizer.add_tokens([AddedToken(name, **flags) for name in names])
    return read_coordinate_vocabulary(tokenizer, num_temporal_tokens, num_spatial_tokens)


def read_coordinate_vocabulary(
    tokenizer: PreTrainedTokenizerBase, num_temporal_tokens: int, num_spatial_tokens: int
) -> CoordinateVocabulary:
    """
    Return the coordinate tokens of a tokenizer with their ids, after checking that all of them are there.

    Raises:
        `InputError`: When a token is missing, or the ids are not consecutive in the order time, height, width.
    """
    names = CoordinateVocabulary(num_temporal_tokens, num_spatial_tokens).tokens
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
    return CoordinateVocabulary(num_temporal_tokens, num_spatial_tokens, offset=ids[0])


def add_media_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the placeholders of images and videos that a tokenizer does not have yet; it is changed in place."""
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in ("<image>", "<video>")])


def require_token(tokenizer: PreTrainedTokenizerBase, token: str, argument: str) -> int:
    """Return the id of a token that an argument of the processor relies on."""
    token_id = tokenizer.convert_tokens_to_ids(token)
    if token_id is None or token_id == tokenizer.unk_token_id:
        raise InputError(f"{argument} needs the token {token}, which the tokenizer lacks: add it to the tokenizer.")
    return token_id


__all__ = [
    "add_coordinate_tokens",
    "add_media_tokens",
    "read_coordinate_vocabulary",
    "require_token",
]
