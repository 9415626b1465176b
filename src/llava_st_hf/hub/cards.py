"""Cards of repositories on the Hub, rendered from the templates beside this file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

from ..processing.media_llava_st import InputError
from ..utils.markdown import escape_markdown, write_code

_TEMPLATES = Path(__file__).with_name("card_templates")
UNKNOWN_LICENSE = "unknown"
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
# Upper limits of the classes of size that the Hub knows.
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))


@dataclass(frozen=True)
class SourceFacts:
    """
    What a card says of one source of a data set.

    Args:
        name (`str`): Name of the source.
        license (`str`, *optional*, defaults to `"unknown"`): SPDX identifier, for example `"CC-BY-4.0"`.
        origin (`str`, *optional*): Where it comes from, an address or a few words.

    Example:

    ```python
    >>> SourceFacts("kitchen", license="CC-BY-4.0").license
    'CC-BY-4.0'
    ```
    """

    name: str
    license: str = UNKNOWN_LICENSE
    origin: str | None = None

    def __post_init__(self):
        if not _LICENSE.fullmatch(self.license):
            raise InputError(
                f"the license of {self.name!r} is {self.license[:80]!r}: give an SPDX identifier such as CC-BY-4.0."
            )


def render_model_card(
    template: str, base_model: str | None = None, library_name: str = "transformers", **values: Any
) -> str:
    """
    Render the card of a checkpoint.

    Args:
        template (`str`): `"converted"`, `"untrained"`, `"trained"` or `"merged"`.
        base_model (`str`, *optional*): Repository of what it was made from, where that is on the Hub.
        library_name (`str`, *optional*, defaults to `"transformers"`): What loads it, as the Hub has it.
        values (`dict[str, Any]`): What the template asks for.

    Returns:
        `str`: Markdown with the metadata of the Hub in front.
    """
    tags = ["llava_st", "video-grounding"]
    data = ModelCardData(
        base_model=base_model, library_name=library_name, pipeline_tag="video-text-to-text", tags=tags
    )
    path = _TEMPLATES / f"{template}_model_card.md.jinja"
    for name, write in (("title", escape_markdown), *((name, write_code) for name in ("source", "base", "adapter"))):
        if name in values:
            values[name] = write(values[name])
    return str(ModelCard.from_template(data, template_path=str(path), **values)).rstrip() + "\n"


def render_dataset_card(
    title: str,
    sources: Mapping[str, SourceFacts],
    counts: Mapping[tuple[str, str], int],
    skips: Mapping[tuple[str, str], int],
    media_types: Mapping[str, int],
    repository: str | None = None,
    features: Any = None,
) -> str:
    """
    Render the card of a published data set.

    Args:
        title (`str`): Name of the data set.
        sources (`Mapping[str, SourceFacts]`): Facts of each source.
        counts (`Mapping[tuple[str, str], int]`): Records by source and task.
        skips (`Mapping[tuple[str, str], int]`): Records left out, by source and reason.
        media_types (`Mapping[str, int]`): Records by type of medium.
        repository (`str`, *optional*): Where it goes on the Hub, for the examples; a place to fill in without one.
        features (`datasets.Features`, *optional*): Of the columns; those in the files by default.

    Returns:
        `str`: Markdown with the metadata of the Hub in front.
    """

    num_records = sum(counts.values())
    names = sorted({source for source, _ in counts})
    facts = [sources.get(name, SourceFacts(name)) for name in names]
    licenses = sorted({fact.license.lower() for fact in facts})
    data = DatasetCardData(
        pretty_name=title,
        license=licenses[0] if len(licenses) == 1 else licenses,
        task_categories=_list_categories(media_types),
        size_categories=[next((name for limit, name in _SIZES if num_records < limit), "n>10M")],
        tags=["llava-st", "temporal-grounding", "spatial-grounding"],
        configs=[
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]},
        ],
    )
    if features is not None:
        from datasets.info import DatasetInfo, DatasetInfosDict

        DatasetInfosDict({"default": DatasetInfo(features=features)}).to_dataset_card_data(data)
    card = DatasetCard.from_template(
        data,
        template_path=str(_TEMPLATES / "dataset_card.md.jinja"),
        title=escape_markdown(title),
        repository=repository or "ORGANIZATION/NAME",
        num_records=num_records,
        media_types=sorted(media_types.items()),
        count_rows=[(escape_markdown(source), task, count) for (source, task), count in sorted(counts.items())],
        source_rows=[
            (
                escape_markdown(fact.name),
                fact.license,
                escape_markdown(fact.origin or "not stated"),
                sum(count for (source, _), count in counts.items() if source == fact.name),
            )
            for fact in facts
        ],
        skip_rows=[(escape_markdown(source), reason, count) for (source, reason), count in sorted(skips.items())],
        num_skipped=sum(skips.values()),
        has_typed_media=features is not None,
        has_unknown_license=any(fact.license.lower() == UNKNOWN_LICENSE for fact in facts),
    )
    return str(card).rstrip() + "\n"


def _list_categories(media_types: Mapping[str, int]) -> list[str]:
    categories = {"video": "video-text-to-text", "image": "image-text-to-text", "text": "text-generation"}
    return [category for name, category in categories.items() if media_types.get(name)]


__all__ = ["UNKNOWN_LICENSE", "SourceFacts", "render_dataset_card", "render_model_card"]
