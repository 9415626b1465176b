"""`model.push_to_hub` and `processor.push_to_hub`: what transformers sends, with the card of this project.

They are not in the classes, whose files travel to the Hub: what writes cards stays here, and is imported for a push.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi

from .modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from .processing.processing_llava_st import LlavaSTProcessor


def push_model(
    self: LlavaSTForConditionalGeneration,
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    max_shard_size: int | str = "50GB",
) -> str:
    """
    Send the model with its code and its card to the Hub; the processor has a `push_to_hub` of its own.

    Of a model that was loaded from a folder, the card is that of `llava-st push FOLDER`.

    Args:
        repo_id (`str`): `ORGANIZATION/NAME`.
        commit_message (`str`, *optional*): Message of the commit.
        private (`bool`, *optional*, defaults to `True`): Whether only its owners may see the repository.
        token (`bool` or `str`, *optional*): Token of the Hub; the one of `hf auth login` by default.
        max_shard_size (`int` or `str`, *optional*, defaults to `"50GB"`): Size of a file.

    Returns:
        `str`: Address of the commit.

    Raises:
        `InputError`: If the repository holds something else, or the Hub refuses.
    """
    from .hub.contents import CardOptions, Contents, make_card
    from .hub.push import check_repository, send_contents

    check_repository(repo_id)
    options = CardOptions(repo_id)
    with TemporaryDirectory() as scratch:
        self.save_pretrained(scratch, max_shard_size=max_shard_size)
        files = {path.name: path for path in sorted(Path(scratch).iterdir())}
        source = str(self.name_or_path)
        files |= make_card(source, options, self.config, self.num_parameters())
        contents = Contents("model", files, is_whole=False)
        return send_contents(contents, options, private is False, commit_message or "Upload model", HfApi(token=token))


def push_processor(
    self: LlavaSTProcessor,
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
) -> str:
    """
    Send the processor with its code to the Hub, beside the model or the adapter that is there or will be.

    Args:
        repo_id (`str`): `ORGANIZATION/NAME`.
        commit_message (`str`, *optional*): Message of the commit.
        private (`bool`, *optional*, defaults to `True`): Whether only its owners may see the repository.
        token (`bool` or `str`, *optional*): Token of the Hub; the one of `hf auth login` by default.

    Returns:
        `str`: Address of the commit.

    Raises:
        `InputError`: If the repository holds something else, or the Hub refuses.
    """
    from .hub.contents import CardOptions, Contents
    from .hub.push import check_repository, send_contents

    check_repository(repo_id)
    with TemporaryDirectory() as scratch:
        self.save_pretrained(scratch)
        contents = Contents("processor", {path.name: path for path in sorted(Path(scratch).iterdir())})
        message = commit_message or "Upload processor"
        return send_contents(contents, CardOptions(repo_id), private is False, message, HfApi(token=token))


__all__ = ["push_model", "push_processor"]
