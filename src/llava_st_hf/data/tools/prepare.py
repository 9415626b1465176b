"""ST-Align from its release and the media of its sources to Parquet shards, source by source, and a mixture of them.

The release is JSON for each source and one mixture for each stage; the media come from elsewhere, and seldom all at
once. So each source is looked at by itself: what is there is published, what is missing is named, and the next run
goes on. The mixture names what is ready, and streams into the recipe of its stage.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml
from huggingface_hub import snapshot_download

from ...processing import InputError
from ...utils.atomic_files import write_text_whole
from ...utils.checked_settings import input_errors
from ...utils.folder_locks import locking_folder
from ...utils.run_manifest import RunManifest
from ...utils.tables import format_table
from ..cards import UNKNOWN_LICENSE, SourceFacts, render_prepared_card
from ..mixture_spec import MixtureSpec, SourceSpec
from ..readers.st_align import StAlignReader
from ..samples import Sample
from ..skips import RecordError
from .check import ChosenRecords
from .publish import publish_dataset

RELEASE = "appletea2333/ST-Align-Dataset"
MANIFEST_FILE = "prepared.json"
# Thousands of samples by stage and task, as the paper has them.
PUBLISHED_COUNTS: Mapping[int, Mapping[str, int]] = {
    1: {"video_captioning": 1280},
    2: {"tvg": 149, "dvc": 92, "tr": 95, "rec": 101, "dgc": 150, "rc": 100},
    3: {
        "tgc": 459,
        "tvg": 84,
        "dvc": 41,
        "igc": 190,
        "rec": 288,
        "dgc": 22,
        "rc": 288,
        "stvg": 81,
        "elc": 36,
        "svg": 81,
        "conversation": 222,
        "video_qa": 338,
        "classification": 66,
        "video_captioning": 168,
    },
}
# Where media are to be had, by a word in the name of a source or of its folder. A mixture says it better: `origin`.
ORIGINS = {
    "activitynet": "http://activity-net.org",
    "charades": "https://prior.allenai.org/projects/charades",
    "coco": "https://cocodataset.org",
    "didemo": "https://github.com/LisaAnne/LocalizingMoments",
    "hcstvg": "https://github.com/tzhhhh123/HC-STVG",
    "internvid": "https://huggingface.co/datasets/OpenGVLab/InternVid",
    "qvhighlights": "https://github.com/jayleicn/moment_detr",
    "refcoco": "https://cocodataset.org",
    "vidor": "https://xdshang.github.io/docs/vidor.html",
    "vidstg": "https://xdshang.github.io/docs/vidor.html",
    "youcook": "http://youcook2.eecs.umich.edu",
}
_STAGE = re.compile(r"stage[_-]?([123])(?!\d)", re.IGNORECASE)


@dataclass
class PreparedSource:
    """One source of a stage, and how far it is."""

    stage: int  # 1, 2 or 3
    name: str  # name of the source, and of its folder
    facts: SourceFacts  # licence and origin
    num_chosen: int = 0  # records that the mixture of the stage chooses
    tasks: dict[str, int] = field(default_factory=dict)  # those by task, the ones without media included
    num_missing: int = 0  # records whose media are not there
    num_unusable: int = 0  # records that cannot be used for another reason
    missing: str | None = None  # what is missing, in a line
    num_published: int | None = None  # records in the shards; `None` where they are not whole


class Preparation:
    """
    The stages of a release, to be prepared source by source.

    Args:
        release (`str` or `Path`): Folder of the release, with a mixture for each stage, `*stage1*.yaml` and so on.
        media (`str` or `Path`):
            Folder of the media. The folders that the mixtures name are looked for where they say and, part by part,
            below this one.
        stages (`Collection[int]`, *optional*): Some of 1, 2 and 3; those that there are a mixture for by default.
        sources (`Collection[str]`, *optional*): Names of some sources; all by default.
        licenses (`Mapping[str, str]`, *optional*): SPDX identifiers by source, before those of the mixtures.

    Raises:
        `InputError`: For a folder without mixtures, or a stage or source that there is none of.

    Example:

    ```python
    >>> preparation = Preparation("st_align", media="media", stages=[2])
    >>> print(format_tasks(list(preparation.survey())))
    ```
    """

    def __init__(
        self,
        release: str | Path,
        media: str | Path,
        stages: Collection[int] | None = None,
        sources: Collection[str] | None = None,
        licenses: Mapping[str, str] | None = None,
    ):
        self.release, self.media = Path(release), Path(media)
        self.licenses = dict(licenses or {})
        self.specs = _find_mixtures(self.release, stages)
        self.all_entries = {
            stage: _name_entries([self._locate(source) for source in spec.datasets])
            for stage, spec in self.specs.items()
        }
        known = sorted({name for entries in self.all_entries.values() for name in entries})
        for field_name, names in (("sources", sources or ()), ("license", self.licenses)):
            if unknown := [name for name in names if name not in known]:
                raise InputError(f"{field_name} is {unknown[0]!r}: choose from {', '.join(known)}.", field=field_name)
        self.chosen = [
            (stage, name, entry)
            for stage, entries in self.all_entries.items()
            for name, entry in entries.items()
            if not sources or name in sources
        ]

    def _locate(self, source: SourceSpec) -> SourceSpec:
        """Return a source with its files where they are on this machine; those that are nowhere stay as they are."""
        if source.json_path is None or "://" in source.json_path:
            raise InputError(
                f"source {source.name!r} has no json_path in the release: its mixture is of another kind."
            )
        folder = source.data_folder or str(self.media)
        return replace(
            source,
            source=source.name,
            json_path=str(_find_below(self.release, source.json_path) or source.json_path),
            data_folder=str(_find_below(self.media, folder, is_folder=True) or folder),
        )

    def survey(self, progress: Callable[[int], None] | None = None) -> Iterator[PreparedSource]:
        """
        Look at every record of every source, and yield what is there of each source.

        Args:
            progress (`Callable[[int], None]`, *optional*): Called with the number of records that were looked at.
        """
        for chosen in self.chosen:
            yield self._survey(*chosen, progress)

    def prepare(
        self,
        output_dir: str | Path,
        max_shard_size: str = "500MB",
        progress: Callable[[int], None] | None = None,
        quiet: bool = False,
        repository: str | None = None,
        send: Callable[[dict[str, Path | bytes], str], Any] | None = None,
    ) -> Iterator[PreparedSource]:
        """
        Publish each source whose media are there, into `output_dir/stageN/SOURCE`, and yield what became of it.

        Killed at any moment and called again, or called again when more media are there, it goes on: what is whole is
        neither read nor written again. `prepared.json` says what is done, `stageN.yaml` is a mixture of that.

        Args:
            output_dir (`str` or `Path`): Folder to write to.
            max_shard_size (`str`, *optional*, defaults to `"500MB"`): Size of a Parquet file.
            progress (`Callable[[int], None]`, *optional*): As in `survey`.
            quiet (`bool`, *optional*, defaults to `False`): Whether to show no progress of the shards.
            repository (`str`, *optional*): Data set of the Hub that each source goes to when its shards are whole.
            send (`Callable[[dict[str, Path | bytes], str], Any]`, *optional*):
                Sends files there, by their paths, with a message; the source is sent again until it returns.

        Raises:
            `InputError`: For a folder of another preparation, or a source that changed since it was published.
        """
        output_dir = Path(output_dir)
        settings = {"version": 1, "release": self.release.resolve().name, "max_shard_size": max_shard_size}
        manifest = RunManifest(output_dir / MANIFEST_FILE, settings, output=output_dir)
        with locking_folder(output_dir, "prepares a data set"):
            if not manifest.load() and (taken := [*output_dir.glob("stage*.yaml")]):
                raise InputError(f"{output_dir} holds {taken[0].name} of no preparation: name another folder.")
            for stage, name, entry in self.chosen:
                key, state = f"stage{stage}/{name}", _describe_files(entry)
                done = manifest.progress.get(key, {})
                if done.get("state") == state:
                    prepared = _read_prepared(done)
                else:
                    prepared = self._survey(stage, name, entry, progress)
                if prepared.missing is None and done.get("state") != state:
                    published = publish_dataset(
                        self._choose(stage, entry),
                        output_dir / key,
                        title=f"ST-Align, stage {stage}, {name}",
                        sources={name: prepared.facts},
                        max_shard_size=max_shard_size,
                        max_skip_share=self.specs[stage].max_skip_share,
                        quiet=quiet,
                    )
                    prepared.num_published = published.num_records
                    done = {"state": state, "source": asdict(prepared)}
                    manifest.save(**{key: done})
                    write_text_whole(output_dir / f"stage{stage}.yaml", self._write_mixture(stage, manifest))
                if send is not None and prepared.missing is None and done.get("sent_to") != repository:
                    files = self._list_files(output_dir, stage, name, manifest, repository)
                    send(files, f"Stage {stage}, {name}: {prepared.num_published:,} records")
                    manifest.save(**{key: {**done, "sent_to": repository}})
                yield prepared

    def find_unlicensed(self) -> list[str]:
        """Return the sources whose licence neither a mixture nor anybody else says."""
        named = {name: self.licenses.get(name) or entry.license for _, name, entry in self.chosen}
        return sorted(name for name, license in named.items() if not license)

    def _survey(
        self, stage: int, name: str, entry: SourceSpec, progress: Callable[[int], None] | None
    ) -> PreparedSource:
        words = re.sub(r"[^a-z0-9]", "", f"{name} {entry.json_path} {entry.data_folder}".lower())
        origin = entry.origin or next((origin for word, origin in ORIGINS.items() if word in words), None)
        license = self.licenses.get(name) or entry.license or UNKNOWN_LICENSE
        found = PreparedSource(stage, name, SourceFacts(name, license, origin))
        if not Path(str(entry.json_path)).is_file():
            found.missing = f"{entry.json_path} is not there: get it from {RELEASE} on the Hub."
            return found
        there = entry if Path(str(entry.data_folder)).is_dir() else replace(entry, data_folder=str(self.release))
        tasks, example = Counter(), None
        for record, reader, place in self._choose(stage, there).iterate():
            if not isinstance(reader, StAlignReader):
                raise InputError(f"{entry.json_path} is not in the form of the release: take it from {RELEASE}.")
            found.num_chosen += 1
            if progress is not None:
                progress(1)
            if isinstance(record, Sample):
                tasks[record.task] += 1
            elif record.reason == "missing_media":
                try:
                    tasks[reader.read_task(place)] += 1
                except RecordError:
                    found.num_unusable += 1
                    continue
                found.num_missing += 1
                example = example or record.detail
            else:
                found.num_unusable += 1
        found.tasks = dict(sorted(tasks.items()))
        allowed = self.specs[stage].max_skip_share * found.num_chosen
        if found.num_missing > allowed:
            found.missing = (
                f"media of {found.num_missing:,} of {found.num_chosen:,} records are not in {entry.data_folder} "
                f"({example}): get them from {origin or 'where the README of the release says'}."
            )
        elif found.num_missing + found.num_unusable > allowed:
            found.missing = (
                f"{found.num_missing + found.num_unusable:,} of {found.num_chosen:,} records cannot be used: "
                f"`llava-st data check {entry.json_path} --data-folder {entry.data_folder}` says why."
            )
        return found

    def _choose(self, stage: int, entry: SourceSpec) -> ChosenRecords:
        return ChosenRecords(replace(self.specs[stage], datasets=(entry,)))

    def _list_files(
        self, output_dir: Path, stage: int, name: str, manifest: RunManifest, repository: str
    ) -> dict[str, Path | bytes]:
        """Return the shards of a source by their paths in a repository, and its card and mixture of what is ready."""
        shards = sorted((output_dir / f"stage{stage}" / name / "data").glob("train-*.parquet"))
        found = [_read_prepared(manifest.progress[key]) for key in sorted(manifest.progress)]
        rows = [(each.stage, each.facts, sorted(each.tasks), each.num_published) for each in found]
        return {
            **{f"stage{stage}/{name}/data/{path.name}": path for path in shards},
            f"stage{stage}.yaml": self._write_mixture(stage, manifest, f"hf://datasets/{repository}/").encode(),
            "README.md": render_prepared_card(repository, rows).encode(),
        }

    def _write_mixture(self, stage: int, manifest: RunManifest, root: str = "") -> str:
        """Write the mixture of what is ready, in the order of the release."""
        entries = []
        for name, entry in self.all_entries[stage].items():
            if (done := manifest.progress.get(f"stage{stage}/{name}")) is not None:
                facts = {key: value for key, value in done["source"]["facts"].items() if key != "name" and value}
                weight = {} if entry.weight == 1 else {"weight": entry.weight}
                entries.append({"json_path": f"{root}stage{stage}/{name}/data", "source": name, **weight, **facts})
        spec = self.specs[stage]
        content: dict[str, Any] = {"seed": spec.seed, "max_skip_share": spec.max_skip_share, "datasets": entries}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _read_prepared(done: Mapping[str, Any]) -> PreparedSource:
    return PreparedSource(**{**done["source"], "facts": SourceFacts(**done["source"]["facts"])})


def fetch_release(name: str) -> Path:
    """Return the folder of a release: a folder as it is, or the annotations of a data set of the Hub in its cache."""
    if Path(name).is_dir():
        return Path(name)
    patterns = ["*.json", "*.jsonl", "*.yaml", "*.yml", "*.md"]
    with input_errors(f"release is {name!r}, which is no folder and cannot be had from the Hub ({{}})."):
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))


def format_sources(found: Collection[PreparedSource]) -> str:
    """Write a table of sources: records, what is missing of them, what is published, licence."""
    numbers = attrgetter("num_chosen", "num_missing", "num_unusable", "num_published")
    rows = [(f"{each.stage}", each.name, *numbers(each), each.facts.license) for each in found]
    header = ("stage", "source", "records", "media missing", "unusable", "published", "licence")
    return format_table(header, rows)


def format_tasks(found: Collection[PreparedSource]) -> str:
    """Write a table of tasks: records here, in thousands too, beside the published ones."""
    counts: dict[int, Counter[str]] = {}
    for each in found:
        counts.setdefault(each.stage, Counter()).update(each.tasks)
    rows = []
    for stage, here in sorted(counts.items()):
        published = PUBLISHED_COUNTS[stage]
        for task in [*published, *sorted(set(here) - set(published))]:
            thousands = f"{published[task]:,} K" if task in published else None
            rows.append((f"{stage}", task, here[task], thousands))
    return format_table(("stage", "task", "records", "published"), rows)


def _find_mixtures(release: Path, stages: Collection[int] | None) -> dict[int, MixtureSpec]:
    if not release.is_dir():
        raise InputError(f"release is {str(release)!r}: no such folder; get {RELEASE} from the Hub.", field="release")
    paths: dict[int, list[Path]] = {}
    for path in sorted([*release.rglob("*.yaml"), *release.rglob("*.yml")]):
        if match := _STAGE.search(path.stem):
            paths.setdefault(int(match[1]), []).append(path)
    for stage in sorted(stages or paths):
        if len(paths.get(stage, ())) != 1:
            found = ", ".join(str(path.relative_to(release)) for path in paths.get(stage, ())) or "none"
            raise InputError(
                f"stage is {stage}, and {release} has to have one mixture of it, *stage{stage}*.yaml: found {found}.",
                field="stage",
            )
    if not paths:
        raise InputError(f"release is {str(release)!r}: it has no mixture, *stage1*.yaml and so on.", field="release")
    return {stage: MixtureSpec.from_yaml(paths[stage][0]) for stage in sorted(stages or paths)}


def _name_entries(sources: Collection[SourceSpec]) -> dict[str, SourceSpec]:
    """Return the entries by names that are folders, and of which none comes twice."""
    named: dict[str, SourceSpec] = {}
    for source in sources:
        name = stem = re.sub(r"[^\w.-]+", "_", source.name).strip(".") or "source"
        number = 1
        while name in named:
            number += 1
            name = f"{stem}-{number}"
        named[name] = replace(source, source=name)
    return named


def _find_below(folder: Path, path: str, is_folder: bool = False) -> Path | None:
    """Return a file or folder at its path, or at the longest end of that path which is there below a folder."""
    parts = PureWindowsPath(path).parts  # takes both kinds of slashes
    candidates = [Path(path), *(folder.joinpath(*parts[first:]) for first in range(1, len(parts)))]
    return next((each for each in candidates if (each.is_dir() if is_folder else each.is_file())), None)


def _describe_files(entry: SourceSpec) -> list[Any]:
    """Describe what a source is made from, so that a change is found."""
    path = Path(str(entry.json_path))
    status = os.stat(path) if path.is_file() else None
    return [path.name, status and status.st_size, status and status.st_mtime_ns, str(entry.sampling_strategy)]
