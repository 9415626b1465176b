"""What a folder is: a model, an adapter, a data set, an evaluation; whether it is whole, and what of it is sent."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from huggingface_hub import DatasetCard, ModelCard

from ..data.cards import BENCHMARK_FILE, UNKNOWN_LICENSE, SourceFacts
from ..inference.loading import load_config
from ..modeling import LlavaSTConfig
from ..modeling.conversion_llava_st import INDEX_FILE, SINGLE_FILE, is_published_config, open_safetensors
from ..processing import InputError, LlavaSTProcessor
from ..utils.checked_settings import input_errors
from ..utils.public_names import hide_folders, looks_like_id
from .cards import (
    PLACEHOLDERS,
    ModelFacts,
    add_results,
    render_results_card,
    render_trained_card,
)
from .results import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    EvaluationRun,
    copy_run_files,
    find_evaluations,
    read_evaluation,
)
from .training_facts import FACTS_FILE, TrainingFacts

CARD_FILE = "README.md"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_RESULTS = ".eval_results"  # where the Hub looks
STATE_FOLDER = "last-checkpoint"  # as transformers calls it
_STATE_FILES = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "trainer_state.json")
_UNFILLED = "[More Information Needed]"  # in the cards that transformers and PEFT make
_TEXTS = (".json", ".jsonl", ".md", ".jinja", ".yaml", ".txt")
_SHARD = re.compile(r"train-(\d{5})-of-(\d{5})\.parquet")
_SHOWN_PATH = 200

Kind = Literal["model", "adapter", "processor", "dataset", "results", "space"]
_OURS = ("*_llava_st.py", f"{_RESULTS}/*.yaml", f"{STATE_FOLDER}/*", FACTS_FILE)
# What an earlier push may have brought, and is deleted where it is not sent again.
_REPLACED = {
    "model": ("model*.safetensors*", *_OURS),
    "adapter": ("adapter_model*.safetensors", *_OURS),
    "processor": (),
    "dataset": ("data/train-*.parquet", BENCHMARK_FILE),
    "results": ("report.md", "report.html", "run.json"),
    "space": (),
}
SPACE_APP = "app.py"


@dataclass(frozen=True)
class Contents:
    """What is sent."""

    # `"model"`, `"adapter"`, `"processor"` (which goes with the first two), `"dataset"`, `"results"`, `"space"`.
    kind: Kind
    files: dict[str, Path | bytes]  # by their paths in the repository; the card is `README.md`
    is_whole: bool = True  # whether the rest of what is in the repository is old

    @property
    def repo_type(self) -> str:
        """Type of the repository on the Hub."""
        if self.kind == "space":
            return "space"
        return "dataset" if self.kind in ("dataset", "results") else "model"

    @property
    def card(self) -> str:
        """The card; empty where none is sent."""
        return self.files.get(CARD_FILE, b"").decode()

    def is_old(self, name: str) -> bool:
        """Tell whether a file of the repository is of an earlier push, and goes."""
        patterns = _REPLACED[self.kind] if self.is_whole else ()
        return name not in self.files and any(fnmatch(name, pattern) for pattern in patterns)

    def list_sizes(self) -> list[tuple[str, int]]:
        """Return the paths in the repository with their sizes in bytes."""
        return [
            (name, len(content) if isinstance(content, bytes) else content.stat().st_size)
            for name, content in sorted(self.files.items())
        ]

    def with_state(self, checkpoint: Path) -> "Contents":
        """Add all that a training goes on from: the model once more, and what `Trainer` saved beside it."""
        paths = [path for pattern in _STATE_FILES for path in checkpoint.glob(pattern)]
        state: dict[str, Path | bytes] = {path.name: path for path in paths}
        progress = hide_folders(_read_json(checkpoint / "trainer_state.json"))
        state["trainer_state.json"] = json.dumps(progress, indent=2).encode()
        model = {name: content for name, content in self.files.items() if name.endswith((".safetensors", ".json"))}
        added = {f"{STATE_FOLDER}/{name}": content for name, content in {**model, **state}.items()}
        return replace(self, files={**self.files, **added})


@dataclass(frozen=True)
class CardOptions:
    """
    What a card says that the folder does not.

    Args:
        repository (`str`): Where it goes on the Hub.
        base_model (`str`, *optional*): The base on the Hub, in place of the one in the folder.
        license (`str`, *optional*): SPDX identifier of a model.
        evaluations (`Sequence[Path]`, *optional*): Folders of evaluations, beside those in the folder of a model.
    """

    repository: str
    base_model: str | None = None
    license: str | None = None
    evaluations: Sequence[Path] = ()

    def __post_init__(self):
        if self.base_model is not None and not looks_like_id(self.base_model):
            raise InputError(f"base_model is {self.base_model!r}: give ORGANIZATION/NAME.", field="base_model")
        if self.license is not None:
            SourceFacts("the weights", self.license)  # checks it


@contextmanager
def collect_contents(folder: str | Path, options: CardOptions) -> Iterator[Contents]:
    """
    Tell what a folder is, check that it is whole, and gather what is sent of it, some of it in a temporary folder.

    It is a run, a checkpoint, a published data set or an evaluation; one that is something else, not whole, or names
    paths of this machine is an `InputError`.
    """
    folder = Path(folder)
    kind = tell_kind(folder)
    refuse_options(kind, options)
    with TemporaryDirectory() as scratch:
        if kind == "dataset":
            files = _collect_dataset(folder, options)
        elif kind == "results":
            files = _collect_results(folder, options)
        elif kind == "space":
            files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        else:
            files = _collect_weights(folder, kind) | _save_small_files(folder, kind, options, Path(scratch))
        contents = Contents(kind, files)
        refuse_paths(contents, folder)
        yield contents


def tell_kind(folder: Path) -> Kind:
    """Tell what a folder is by the files in it."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the one that was written.", field="path")
    if (folder / "unfinished.json").is_file():
        raise InputError(f"{folder} is not finished: run the command that writes it again, it goes on.", field="path")
    if (folder / ADAPTER_CONFIG).is_file():
        return "adapter"
    if (folder / "config.json").is_file():
        return "model"
    if any((folder / "data").glob("train-*.parquet")) or (folder / ".publish").is_dir():
        return "dataset"
    if (folder / METRICS_FILE).is_file() or (folder / PREDICTIONS_FILE).is_file():
        return "results"
    if (folder / SPACE_APP).is_file() and _is_gradio_card(folder / CARD_FILE):
        return "space"
    raise InputError(
        f"{folder} holds nothing that can be sent: give a folder with a model, an adapter, a data set of `llava-st "
        "data publish`, an evaluation, or a Space.",
        field="path",
    )


def _is_gradio_card(path: Path) -> bool:
    return path.is_file() and "\nsdk: gradio\n" in path.read_text(encoding="utf-8", errors="replace")


def refuse_options(kind: Kind, options: CardOptions) -> None:
    """Raise `InputError` for what a card of this kind cannot say."""
    if options.license is not None and kind not in ("model", "adapter"):
        raise InputError(f"license is {options.license!r}, but a {kind} says its own: leave it out.", field="license")
    if options.evaluations and kind not in ("model", "adapter"):
        raise InputError("evaluations go with a model or an adapter: leave them out.", field="results")
    if options.base_model is not None and kind in ("dataset", "space"):
        raise InputError(f"base_model is {options.base_model!r}, but a {kind} has none: leave it out.")


def refuse_paths(contents: Contents, folder: Path) -> None:
    """Raise `InputError` where a text that is sent names a folder of this machine."""
    folders = {folder.resolve(), folder.resolve().parent, Path.cwd(), Path.home()}
    known = [*sorted(str(path) for path in folders if len(path.parts) > 2), f"{Path.home()}/"]
    for name, content in contents.files.items():
        if not name.endswith(_TEXTS):
            continue
        text = (content if isinstance(content, bytes) else content.read_bytes()).decode("utf-8", "replace")
        if found := next((path for path in known if path != "//" and path in text), None):
            raise InputError(f"{name} names {found[:_SHOWN_PATH]!r}, a path of this machine: remove it there.")


# Models and adapters ---------------------------------------------------------------------------------------------


def _collect_weights(folder: Path, kind: Kind) -> dict[str, Path | bytes]:
    """Return the weight files, each of which is whole."""
    names = [ADAPTER_WEIGHTS] if kind == "adapter" else [SINGLE_FILE]
    index = _read_json(folder / INDEX_FILE) if kind == "model" and (folder / INDEX_FILE).is_file() else None
    if index is not None:
        names = sorted(set(index["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder} lacks {name}: it is not whole, write it again.", field="path")
        with input_errors():
            open_safetensors(folder / name)  # its header says how long it is
    return {name: folder / name for name in (*names, *([INDEX_FILE] if index is not None else []))}


def _save_small_files(folder: Path, kind: Kind, options: CardOptions, scratch: Path) -> dict[str, Path | bytes]:
    """Write config, processor and code anew, so that they are there and fit, and return them with the card."""
    if kind == "model":
        if is_published_config(_read_json(folder / "config.json")):
            raise InputError(f"{folder} is in the published layout: rewrite it with `llava-st convert` first.")
        config = load_config(folder)
        for part in (config.text_config, config.vision_config):
            part.dtype = part.dtype or config.dtype  # as loading does: `push_to_hub` of the model writes the same
        config.save_pretrained(scratch)  # with the code of the model
    if not (folder / "processor_config.json").is_file():
        raise InputError(f"{folder} has no processor: save it there, `processor.save_pretrained({str(folder)!r})`.")
    with input_errors(f"the processor of {folder} cannot be read ({{}}): save it again."):
        processor = LlavaSTProcessor.from_pretrained(folder)
    processor.save_pretrained(scratch)
    base_model = _find_base(folder, kind, options)
    if kind == "adapter":
        write_adapter_config(folder, scratch, base_model)
    files: dict[str, Path | bytes] = {path.name: path for path in sorted(scratch.iterdir())}
    if (folder / "generation_config.json").is_file():
        files["generation_config.json"] = folder / "generation_config.json"
    num_parameters = count_parameters(_collect_weights(folder, kind))
    return files | _write_card(folder, kind, replace(options, base_model=base_model), num_parameters)


def _find_base(folder: Path, kind: Kind, options: CardOptions) -> str | None:
    """Return the base on the Hub; an adapter must have one."""
    if options.base_model is not None:
        return options.base_model
    if kind == "model":
        facts = TrainingFacts.load(folder)
        return None if facts is None else facts.base_id
    return check_base_name(str(_read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or ""))


def check_base_name(base: str) -> str:
    """Return the base of an adapter, which must be a repository."""
    if not looks_like_id(base):
        raise InputError(
            f"base_model_name_or_path is {base[:_SHOWN_PATH]!r} in {ADAPTER_CONFIG}, which nobody else has: push that "
            "model first, and name its repository.",
            field="base_model",
        )
    return base


def write_adapter_config(folder: Path, target: Path, base: str) -> None:
    """Write the config of an adapter with its base on the Hub, of which the revision of another says nothing."""
    content = _read_json(folder / ADAPTER_CONFIG)
    if content.get("base_model_name_or_path") != base:
        content |= {"base_model_name_or_path": base, "revision": None}
    (target / ADAPTER_CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def make_card(
    source: str, options: CardOptions, config: LlavaSTConfig, num_parameters: int, is_adapter: bool = False
) -> dict[str, bytes]:
    """
    Return the card of a model or an adapter in memory, with the files of its evaluations.

    Args:
        source (`str`): Where it was loaded from: a folder with a processor, a repository, or nothing.
        options (`CardOptions`): For the card.
        config (`LlavaSTConfig`): Its config.
        num_parameters (`int`): Its size.
        is_adapter (`bool`, *optional*, defaults to `False`): Whether it is an adapter of what is there.
    """
    if not is_adapter and (Path(source) / "processor_config.json").is_file():
        folder, base = Path(source), _find_base(Path(source), "model", options)
        return _write_card(folder, "model", replace(options, base_model=base), num_parameters)
    if source == options.repository:  # its card is there
        return {}
    facts = ModelFacts(
        options.repository,
        is_adapter=is_adapter,
        base_model=options.base_model or (source if looks_like_id(source) else None),
        num_parameters=num_parameters,
        num_frames=config.num_temporal_tokens,  # what a processor samples that nobody told otherwise
        image_size=config.vision_config.image_size,
        num_temporal_tokens=config.num_temporal_tokens,
        num_spatial_tokens=config.num_spatial_tokens,
    )
    return {CARD_FILE: render_trained_card(facts, None).encode()}


def _write_card(folder: Path, kind: Kind, options: CardOptions, num_parameters: int) -> dict[str, bytes]:
    """Return the card that lies in the folder, else one of what the run knows, with the files of its evaluations."""
    evaluations = {path: read_evaluation(path) for path in (*find_evaluations(folder), *options.evaluations)}
    if kind == "model":
        for path, run in evaluations.items():
            _check_weights(folder, path, run)
    evaluations = list(evaluations.values())
    known = {f"{_RESULTS}/{path.name}": path.read_bytes() for path in sorted((folder / _RESULTS).glob("*.yaml"))}
    files = known | {f"{_RESULTS}/{run.benchmark}.yaml": run.write_yaml().encode() for run in evaluations}
    training = TrainingFacts.load(folder)
    if training is not None:
        files[FACTS_FILE] = (folder / FACTS_FILE).read_bytes()
    own = (folder / CARD_FILE).read_text(encoding="utf-8") if (folder / CARD_FILE).is_file() else _UNFILLED
    if training is None and kind == "model" and _UNFILLED not in own:
        card = add_results(own, options.repository, evaluations)
        if options.license is not None:
            parsed = ModelCard(card)
            parsed.data.license = options.license.lower()
            card = str(parsed)
        return {**files, CARD_FILE: card.encode()}
    facts = _describe(folder, kind, options, num_parameters)
    return {**files, CARD_FILE: render_trained_card(facts, training, evaluations).encode()}


def write_card(
    folder: Path,
    title: str,
    training: TrainingFacts | None,
    base: str | None = None,
    merged: tuple[str, str] | None = None,
) -> None:
    """
    Write the card of a model or an adapter into its folder; what is sent has the same, with its place on the Hub.

    Args:
        folder (`Path`): With weights and processor.
        title (`str`): Name of what is in it.
        training (`TrainingFacts`, *optional*): How it was made.
        base (`str`, *optional*): What it was made from; by default what its training says.
        merged (`tuple[str, str]`, *optional*): Names of the adapter and the base that it was merged from.
    """
    kind = tell_kind(folder)
    base = base or (training and training.base_id) or ""
    options = CardOptions(PLACEHOLDERS[0], base if looks_like_id(base) else None)
    facts = _describe(folder, kind, options, count_parameters(_collect_weights(folder, kind)))
    card = render_trained_card(replace(facts, title=title, merged=merged), training)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")


def _describe(folder: Path, kind: Kind, options: CardOptions, num_parameters: int) -> ModelFacts:
    settings = _read_json(folder / "processor_config.json")
    return ModelFacts(
        options.repository,
        kind == "adapter",
        options.base_model,
        num_parameters,
        num_frames=settings["video_processor"]["num_frames"] or settings["num_temporal_tokens"],
        image_size=settings["video_processor"]["size"]["height"],
        num_temporal_tokens=settings["num_temporal_tokens"],
        num_spatial_tokens=settings["num_spatial_tokens"],
        license=options.license,
    )


def _check_weights(folder: Path, evaluation: Path, run: EvaluationRun) -> None:
    """Raise `InputError` where an evaluation is of other weights; nothing is said where their types differ."""
    dtypes, weights = hash_weights(folder)
    if dtypes == {run.settings.get("dtype")} and run.settings.get("weights") not in (None, weights):
        raise InputError(
            f"{evaluation} is an evaluation of other weights than those of {folder}: evaluate again, or move it away.",
            field="results",
        )


def hash_weights(folder: Path) -> tuple[set[str], str]:
    """Return the types of the weights of a model, and what `evaluate` knows them by."""
    from ..evaluation.runner import NUM_HASHED, hash_heads  # which imports this package

    heads: dict[str, tuple[tuple[int, ...], Any]] = {}
    for path in _collect_weights(folder, "model").values():
        if path.suffix == ".safetensors":
            file = open_safetensors(path)
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                shape = tuple(part.get_shape())
                num_rows = -(-NUM_HASHED // max(math.prod(shape[1:]), 1))
                heads[name] = (shape, part[:num_rows] if shape else file.get_tensor(name))
    if "lm_head.weight" not in heads:  # tied
        heads["lm_head.weight"] = heads["model.language_model.embed_tokens.weight"]
    return {str(head.dtype).removeprefix("torch.") for _, head in heads.values()}, hash_heads(heads)


def holds_other_weights(folder: str | Path, saved: str | Path) -> bool:
    """Tell whether a folder has other weights than a model that was loaded from there and is saved now."""
    if not (Path(folder) / "config.json").is_file():
        return False
    before, now = hash_weights(Path(folder)), hash_weights(Path(saved))
    return before[0] == now[0] and before[1] != now[1]


def count_parameters(weights: Mapping[str, Path]) -> int:
    """Return the numbers in the files with weights."""
    total = 0
    for path in weights.values():
        if path.suffix == ".safetensors":
            tensors = open_safetensors(path)
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def _read_json(path: Path) -> dict[str, Any]:
    with input_errors(f"{path} cannot be read ({{}}): write it again."):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds no object: write it again.")
    return dict(content)


# Data sets and evaluations ---------------------------------------------------------------------------------------


def _collect_dataset(folder: Path, options: CardOptions) -> dict[str, Path | bytes]:
    """Return the shards and the card of a published data set."""
    shards = sorted((folder / "data").glob("train-*.parquet"))
    numbers = [match for path in shards if (match := _SHARD.fullmatch(path.name))]
    card = folder / CARD_FILE
    expected = {(f"{index:05d}", f"{len(shards):05d}") for index in range(len(shards))}
    if not shards or not card.is_file() or {match.groups() for match in numbers} != expected:
        raise InputError(f"{folder} is not whole: run the same `llava-st data publish` again.", field="path")
    text = card.read_text(encoding="utf-8")
    licenses = DatasetCard(text).data.get("license") or UNKNOWN_LICENSE
    if UNKNOWN_LICENSE in ([licenses] if isinstance(licenses, str) else licenses):
        raise InputError(
            "the licence of a source is not known, and nothing is sent without it: say it with `llava-st data publish "
            "--license SOURCE=SPDX`, or license: in the mixture."
        )
    for placeholder in PLACEHOLDERS:
        text = text.replace(placeholder, options.repository)
    benchmark = folder / BENCHMARK_FILE
    files = {CARD_FILE: text.encode(), **{f"data/{path.name}": path for path in shards}}
    return {**files, BENCHMARK_FILE: benchmark} if benchmark.is_file() else files


def _collect_results(folder: Path, options: CardOptions) -> dict[str, Path | bytes]:
    """Return the files of an evaluation, without paths of the machine, and its card."""
    run = read_evaluation(folder)
    named = str(run.settings["model"])
    model_id = options.base_model or (named if looks_like_id(named) else None)
    card = render_results_card(run, options.repository, model_id)
    return {CARD_FILE: card.encode(), **copy_run_files(folder)}
