"""How options are declared: as parameters of a command, or as fields of a dataclass that several commands take."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .running import check_folder, naming
from .tasks import check_task, complete_task

if TYPE_CHECKING:
    from llava_st_hf import SpatialTemporalGroundingPipeline


def option(metavar: str | None, help: str, *flags: str, **settings: Any) -> Any:
    """Declare an option, whose flag is the name of the parameter unless others are given."""
    return typer.Option(*flags, metavar=metavar, help=help, **settings)


def flag(name: str, help: str) -> Any:
    """Declare an option without a value."""
    return typer.Option(name, help=help)


def argument(metavar: str, help: str) -> Any:
    """Declare an argument."""
    return typer.Argument(metavar=metavar, help=help)


def task_option(help: str) -> Any:
    """Declare an option that takes the name of a task."""
    return option("TASK", help, callback=check_task, autocompletion=complete_task)


MODEL_HELP = "checkpoint: a directory, or a repository on the Hub"
Quiet = Annotated[bool, flag("--quiet", "no progress on standard error")]
PrintJson = Annotated[bool, flag("--json", "print JSON")]
Overwrite = Annotated[bool, flag("--overwrite", "replace files that are no earlier outputs, too; never an input")]
MaxNewTokens = Annotated[int, option("N", "longest answer")]
ShardSize = Annotated[str, option("SIZE", "size of an output file")]


@dataclass(frozen=True)
class ModelChoice:
    """A model to load, by default the one that ships; a folder that is not there is refused at once."""

    model: Annotated[
        str | None,
        option("ID_OR_DIR", f"{MODEL_HELP}; without it the small one that ships answers, which knows shapes only"),
    ] = None
    device: Annotated[str | None, option("DEVICE", "cpu, cuda, cuda:1, ... (an accelerator where there is one)")] = (
        None
    )
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], option(None, "type of the weights; auto: the checkpoint's")
    ] = "auto"

    def __post_init__(self):
        check_folder("--model", self.model)

    def load(self) -> "SpatialTemporalGroundingPipeline":
        """Load it."""
        from llava_st_hf import load_pipeline
        from llava_st_hf.demo import SHIPPED_CHECKPOINT

        name = SHIPPED_CHECKPOINT if self.model is None else self.model
        with naming(f"--model {name}"):
            return load_pipeline(name, self.device, self.dtype)


def expand_dataclasses(function: Callable) -> Callable:
    """Let a function take the fields of a dataclass one by one, where it takes the dataclass."""
    groups, parameters = {}, []
    for parameter in inspect.signature(function).parameters.values():
        if not is_dataclass(parameter.annotation):
            parameters.append(parameter)
            continue
        groups[parameter.name] = parameter.annotation
        for field in fields(parameter.annotation):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            parameters.append(parameter.replace(name=field.name, annotation=field.type, default=default))

    @wraps(function)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        function(**values)

    # By keyword only, so that one with a default may stand before one without.
    call.__signature__ = inspect.Signature([each.replace(kind=each.KEYWORD_ONLY) for each in parameters])
    return call
