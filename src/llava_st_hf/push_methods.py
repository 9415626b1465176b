"""`push_to_hub` of model, adapter and processor: what transformers and PEFT send, with the card of this project.

They are not in the classes, whose files travel to the Hub: what writes cards stays here, and is imported for a push.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from huggingface_hub import HfApi

from .modeling import LlavaSTForConditionalGeneration
from .processing import InputError, LlavaSTProcessor

if TYPE_CHECKING:
    from peft import PeftModel


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

    Of a model that was loaded from a folder and not trained since, the card is that of `llava-st push FOLDER`.

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
    from .hub.contents import CardOptions, Contents, holds_other_weights, make_card
    from .hub.push import check_repository, send_contents

    check_repository(repo_id)
    if getattr(self, "_hf_peft_config_loaded", False):
        raise InputError("the model has an adapter: push a `peft.PeftModel` of it, or merge it first.")
    options = CardOptions(repo_id)
    with TemporaryDirectory() as scratch:
        self.save_pretrained(scratch, max_shard_size=max_shard_size)
        files = {path.name: path for path in sorted(Path(scratch).iterdir())}
        source = "" if holds_other_weights(self.name_or_path, scratch) else str(self.name_or_path)
        files |= make_card(source, options, self.config, self.num_parameters())
        contents = Contents("model", files, is_whole=False)
        return send_contents(contents, options, private is False, commit_message or "Upload model", HfApi(token=token))


def push_adapter(
    self: "PeftModel",
    repo_id: str,
    *,
    base_model: str | None = None,
    commit_message: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
) -> str:
    """
    Send the active adapter with its card to the Hub; `llava-st push` of the folder of a run says how it was made, too.

    Args:
        repo_id (`str`): `ORGANIZATION/NAME`.
        base_model (`str`, *optional*): Its base on the Hub, which one that was loaded from a folder does not know.
        commit_message (`str`, *optional*): Message of the commit.
        private (`bool`, *optional*, defaults to `True`): Whether only its owners may see the repository.
        token (`bool` or `str`, *optional*): Token of the Hub; the one of `hf auth login` by default.

    Returns:
        `str`: Address of the commit.

    Raises:
        `InputError`: If its base is not on the Hub, the repository holds something else, or the Hub refuses.
    """
    from .hub.contents import (
        CardOptions,
        Contents,
        check_base_name,
        count_parameters,
        make_card,
        write_adapter_config,
    )
    from .hub.push import check_repository, send_contents

    check_repository(repo_id)
    name = self.active_adapter
    options = CardOptions(repo_id, base_model or check_base_name(self.peft_config[name].base_model_name_or_path))
    with TemporaryDirectory() as scratch:
        self.save_pretrained(scratch, selected_adapters=[name])
        folder = Path(scratch) / ("" if name == "default" else name)
        write_adapter_config(folder, folder, options.base_model)
        files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        files |= make_card("", options, self.get_base_model().config, count_parameters(files), is_adapter=True)
        contents = Contents("adapter", files, is_whole=False)
        message = commit_message or "Upload adapter"
        return send_contents(contents, options, private is False, message, HfApi(token=token))


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


def push_when_asked(save: Callable) -> Callable:
    """Return a `save_pretrained` whose `push_to_hub=True` calls one of the functions above, which know the card."""

    @wraps(save)
    def save_pretrained(self, save_directory, *args, push_to_hub=False, **kwargs):
        asked = {name: kwargs.pop(name) for name in ("repo_id", "private", "commit_message") if name in kwargs}
        saved = save(self, save_directory, *args, **kwargs)
        if push_to_hub:
            self.push_to_hub(**{"repo_id": Path(save_directory).name, "token": kwargs.get("token"), **asked})
        return saved

    return save_pretrained


class _AdapterConfigs:
    """`peft_config` of the model, which PEFT sets when it wraps it: by then it is imported, whoever did that."""

    def __get__(self, model: LlavaSTForConditionalGeneration | None, kind: type | None = None) -> object:
        if "peft_config" not in getattr(model, "__dict__", {}):
            raise AttributeError("peft_config")
        return model.__dict__["peft_config"]

    def __set__(self, model: LlavaSTForConditionalGeneration, value: object) -> None:
        push_adapters_of_ours()
        model.__dict__["peft_config"] = value

    def __delete__(self, model: LlavaSTForConditionalGeneration) -> None:
        model.__dict__.pop("peft_config")


def register_push_methods() -> None:
    """Give model, adapter and processor the functions above; a second time changes nothing."""
    for kind, push in ((LlavaSTForConditionalGeneration, push_model), (LlavaSTProcessor, push_processor)):
        if kind.push_to_hub is not push:
            kind.push_to_hub, kind.save_pretrained = push, push_when_asked(kind.save_pretrained)
    LlavaSTForConditionalGeneration.peft_config = _AdapterConfigs()


def push_adapters_of_ours() -> None:
    """Let PEFT push the adapters of this model with a card; those of other models it treats as before."""
    from peft import PeftModel

    if hasattr(PeftModel.push_to_hub, "__wrapped__"):  # done before
        return

    def is_ours(model: "PeftModel") -> bool:
        return isinstance(model.get_base_model(), LlavaSTForConditionalGeneration)

    def either(own: Callable, other: Callable) -> Callable:
        return wraps(other)(lambda self, *args, **kwargs: (own if is_ours(self) else other)(self, *args, **kwargs))

    PeftModel.push_to_hub = either(push_adapter, PeftModel.push_to_hub)
    # Else one of blanks to fill in lies in each folder of an adapter.
    PeftModel.create_or_update_model_card = either(lambda *_: None, PeftModel.create_or_update_model_card)
