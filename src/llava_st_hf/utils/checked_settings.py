"""Settings that are checked, with errors of one line that name the field, its value and the fix."""

import copy
import difflib
import os
import types
import typing
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError

from ..processing import InputError
from .regular_files import check_regular_file

T = TypeVar("T")
# Of a file of settings: what reads YAML takes some hundred times its bytes, and seconds for each million of them.
MAX_YAML_BYTES = 2**20
MAX_YAML_NODES = 2**17
_CHARACTERS_OF_NODE = 64  # of a text, so many count as one more
_FIXES = {
    str: "a text (in quotes, if it looks like a number)",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "keys with values",
}


def checked(cls: type[T]) -> type[T]:
    """
    Let a dataclass check each value by the type and the validator of its field, also when it is assigned later.

    This is `strict` of huggingface_hub with the errors of this project; a whole number is a number, too. A validator
    (see its `validated_field`) raises `ValueError` with the fix. The dataclass must not be frozen: `strict` checks
    assignments.

    Raises:
        `InputError`: For a value of another type, or one that a validator refuses.

    Example:

    ```python
    >>> @checked
    ... @dataclass
    ... class Settings:
    ...     num_frames: int = 100
    >>> Settings(num_frames="many")
    InputError: num_frames is 'many': give a whole number.
    ```
    """
    # `strict` gets fields of its own: HfArgumentParser changes the types of those that it makes options of.
    own_fields = cls.__dataclass_fields__
    cls.__dataclass_fields__ = {name: copy.copy(field) for name, field in own_fields.items()}
    cls = strict(cls)
    cls.__dataclass_fields__ = own_fields
    kinds = {name: _list_types(field.type) for name, field in own_fields.items()}
    assign = cls.__setattr__

    def __setattr__(self: Any, name: str, value: Any) -> None:
        # A whole number beyond all floats stays one, which the check refuses.
        is_number = type(value) is int and float in kinds.get(name, ()) and abs(value) < 2**1023
        try:
            assign(self, name, float(value) if is_number else value)
        except StrictDataclassFieldValidationError as error:
            cause = error.__cause__
            if isinstance(cause, InputError):
                raise cause from error
            if isinstance(cause, TypeError):
                cause = f"give {' or '.join(_FIXES[kind] for kind in kinds[name] if kind in _FIXES)}"
            raise InputError(f"{name} is {value!r:.200}: {cause}.", field=name) from error

    cls.__setattr__ = __setattr__
    return cls


def _list_types(annotation: Any) -> list[Any]:
    """Return the types of a union, without their parameters."""
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else [annotation]
    return [typing.get_origin(part) or part for part in parts]


def check_keys(content: Any, known: Collection[str], what: str, advice: str = "The keys are {known}.") -> None:
    """
    Check that settings, which messages call `what`, are a mapping with known keys only; else raise `InputError`.

    A key that is nearly a known one is asked after; `advice` ends the message of an unknown key.
    """
    if not isinstance(content, Mapping):
        problem = "empty" if content is None else repr(content)[:80]
        raise InputError(f"{what} is {problem}: give keys with values.")
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(f"{what} has the unknown key {key!r}: {hint}{advice.format(known=', '.join(known))}")


def read_yaml(path: str | os.PathLike, what: str) -> Any:
    """
    Read a YAML file of settings, which messages call `what`.

    A file that is missing or no YAML, or a key that is there twice, is an `InputError`.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses anchors that multiply, and keys that are there twice, of which YAML keeps the last in silence."""

        num_nodes = 0  # with what each alias stands for

        def __init__(self, stream: Any):
            super().__init__(stream)
            self.sizes: dict[int, int] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            is_alias, before = self.check_event(yaml.AliasEvent), self.num_nodes
            node = super().compose_node(parent, index)
            if is_alias and id(node) not in self.sizes:
                raise yaml.YAMLError(f"an anchor stands for a part of itself{node.start_mark}: write it out.")
            text = node.value if isinstance(node, yaml.ScalarNode) else ""
            self.num_nodes += self.sizes[id(node)] if is_alias else 1 + len(text) // _CHARACTERS_OF_NODE
            if self.num_nodes > MAX_YAML_NODES:
                raise yaml.YAMLError(f"it has more than {MAX_YAML_NODES:,} values, with what anchors stand for.")
            if not is_alias:
                self.sizes[id(node)] = self.num_nodes - before
            return node

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            if twice := next((name for name, count in names.items() if count > 1), None):
                raise yaml.YAMLError(f"the key {twice!r:.80} is there twice{node.start_mark}: give it once.")
            return node

    check_regular_file(path, what)
    if os.path.isfile(path) and (num_bytes := os.path.getsize(path)) > MAX_YAML_BYTES:
        raise InputError(f"the {what} {path} has {num_bytes:,} bytes, more than {MAX_YAML_BYTES:,}: shorten it.")
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8-sig"), Loader)
    except OSError as error:
        raise InputError(f"the {what} {path} cannot be read: {error.strerror}. Fix its path.") from error
    # The makers of numbers, times and flags let through what they come upon.
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the {what} {path} is no YAML: {reason:.500}") from error


@contextmanager
def input_errors(message: str = "{}") -> Iterator[None]:
    """
    Turn whatever reading or writing files, here or on the Hub, raises into an `InputError` of one line.

    A file that somebody else wrote can raise anything: `KeyError` and `RecursionError` as well as `SafetensorError`.

    Args:
        message (`str`, *optional*, defaults to `"{}"`): The message, with `{}` in the place of what was raised.
    """
    try:
        yield
    except (InputError, ImportError):  # what is not installed is not the file's fault
        raise
    except Exception as error:
        if isinstance(error, StrictDataclassError):  # wraps the message of a check in lines of its own
            reason = str(error.__cause__ or error).replace("\n", " ")
        else:
            reason = (str(error).strip().splitlines() or [""])[0]
        if not reason or isinstance(error, LookupError):  # whose message is a key alone
            reason = f"{type(error).__name__} {reason}".strip()
        raise InputError(reason.join(message.rsplit("{}", 1))) from error
