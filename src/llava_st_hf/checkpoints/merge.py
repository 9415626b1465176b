"""Makes a whole checkpoint of an adapter and the model that it was trained on."""

from pathlib import Path

from ..hub.contents import write_card
from ..hub.training_facts import TrainingFacts
from ..inference.loading import find_model_folder, find_source, load_model, make_meta_model
from ..processing import InputError, LlavaSTProcessor
from ..utils.atomic_files import is_leftover, writing_whole
from ..utils.checked_settings import input_errors
from ..utils.folder_locks import locking
from ..utils.sizes import check_space, parse_size
from .reading import name_source
from .writing import WrittenCheckpoint


def merge_checkpoint(
    adapter: str | Path, destination: str | Path, dtype: str = "auto", max_shard_size: str = "2GB"
) -> WrittenCheckpoint:
    """
    Merge an adapter into its base: model, tokenizer, processor, generation config and card.

    Args:
        adapter (`str` or `Path`): Folder of the adapter or of its run, or its repository on the Hub.
        destination (`str` or `Path`): Folder to write, new or empty. It appears when all of it is written.
        dtype (`str`, *optional*, defaults to `"auto"`): Type of the weights; by default that of the base.
        max_shard_size (`str`, *optional*, defaults to `"2GB"`): Size of an output file.

    Returns:
        `WrittenCheckpoint`: The folder.

    Raises:
        `InputError`: When it is no adapter, its base cannot be loaded, or the destination is taken.

    Example:

    ```python
    >>> merge_checkpoint("outputs/custom_grounding_lora", "my-llava-st").path
    PosixPath('my-llava-st')
    ```
    """
    max_shard_bytes = parse_size(max_shard_size)
    folder, destination = find_model_folder(adapter), Path(destination)
    with input_errors(f"{adapter} cannot be read ({{}}): give the folder of an adapter."):
        source = find_source(folder)
    if source.adapter is None:
        raise InputError(f"{adapter} is no adapter: it has no adapter_config.json, or is a whole model already.")
    if destination.exists() and (not destination.is_dir() or not all(map(is_leftover, destination.iterdir()))):
        raise InputError(f"{destination} is not empty, and nothing is overwritten: name another folder, or empty it.")
    num_bytes = sum(
        weight.numel() * weight.element_size() for weight in make_meta_model(folder, None, dtype).parameters()
    )
    with input_errors(f"{adapter} has no processor that can be read ({{}}): save it there."):
        processor = LlavaSTProcessor.from_pretrained(folder)
    with input_errors(f"{destination} could not be written ({{}})."):
        check_space(destination, num_bytes)
        destination.parent.mkdir(parents=True, exist_ok=True)
        lock = destination.with_name(f"{destination.name}.lock")
        with locking(lock, "merges an adapter"), writing_whole(destination) as temporary_path:
            model = load_model(folder, dtype)
            model.save_pretrained(temporary_path, max_shard_size=max_shard_bytes)
            processor.save_pretrained(temporary_path)
            names = name_source(adapter), name_source(source.base)
            write_card(temporary_path, destination.resolve().name, TrainingFacts.load(folder), source.base, names)
    return WrittenCheckpoint(destination, ())
