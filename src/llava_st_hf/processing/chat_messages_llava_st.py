"""What chat messages carry beside their words: which frames a video's block asks for, and what the question is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from transformers import PreTrainedTokenizerBase

from .batch_feature_llava_st import GroundingContext
from .media_llava_st import PromptError
from .prompt_expansion_llava_st import check_encodable
from .video_processing_llava_st import REQUEST_FIELDS

# Key of a chat message under which the question travels to `post_process_grounding`; no template renders it.
GROUNDING_KEY = "grounding"


def check_query(query: str, tokenizer: PreTrainedTokenizerBase, media_tokens: Sequence[str]) -> None:
    """Raise `PromptError` where a query is no text, or holds a token that steers the model."""
    if not isinstance(query, str):
        raise PromptError(f"query is {' '.join(repr(query)[:80].split())}: give it as text.", field="query")
    check_encodable("query", query)
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    for token in sorted(special | {"<|im_start|>", "<|im_end|>", *media_tokens}):
        if token in query:
            raise PromptError(
                f"query holds the control token {token}: leave it out, media have arguments.", field="query"
            )


def read_requests(conversations: Sequence[Any], defaults: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return which frames the blocks of videos ask for, listed for each video, where any of them does."""
    blocks = [
        block
        for messages in conversations
        for message in messages
        if not isinstance(message.get("content"), (str, type(None)))
        for block in message["content"]
        if block.get("type") == "video"
    ]
    listed = {
        name: [defaults.get(name) if block.get(name) is None else block[name] for block in blocks]
        for name in REQUEST_FIELDS
        if any(block.get(name) is not None for block in blocks)
    }
    # One video's number of frames must not take the other videos' default from them, nor meet its own rate.
    if "num_frames" in listed or "fps" in listed:
        for name, other in (("num_frames", "fps"), ("fps", "num_frames")):
            listed[name] = [
                block.get(name) if block.get(name) is not None or block.get(other) is not None else defaults.get(name)
                for block in blocks
            ]
    return listed


def write_context(context: GroundingContext) -> dict[str, Any]:
    """Return the entry of a message that `read_context` makes the context of again."""
    return {GROUNDING_KEY: {key: value for key, value in asdict(context).items() if value is not None}}


def read_context(messages: Sequence[Mapping[str, Any]]) -> GroundingContext:
    """Return what `build_messages` noted in the last message that has a note."""
    notes = [message[GROUNDING_KEY] for message in messages if message.get(GROUNDING_KEY)]
    known = {field.name for field in fields(GroundingContext)}
    return GroundingContext(**{key: value for key, value in notes[-1].items() if key in known} if notes else {})


__all__ = ["check_query", "read_context", "read_requests", "write_context"]
