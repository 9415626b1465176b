"""The forms that answers have: which parts, how many of each, and how they are put together.

Parser, grammar, records and scores go by these; which task is answered in which form stands in `tasks_llava_st`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from types import MappingProxyType

from .media_llava_st import InputError

# What stands between two groups of a kind where an answer has several of them, one after another.
SEPARATORS: Mapping[str, str] = MappingProxyType({"span": ", ", "box": ", ", "tube": "; another: "})


@dataclass(frozen=True)
class AnswerFormat:
    """
    The form of an answer.

    Args:
        name (`str`): Its name.
        parts (`tuple[str, ...]`):
            What an answer must have, out of `"text"` (words alone), `"span"`, `"box"`, `"tube"` and `"caption"` (words
            that belong to a span or a box).
        several (`tuple[str, ...]`, *optional*, defaults to `()`):
            Those of `parts` of which an answer may have more than one.
        template (`str`, *optional*, defaults to `"{text}"`):
            How an answer is put together. Where it is `"{text}"`, the spans and boxes stand among free words.

    Example:

    ```python
    >>> ANSWER_FORMATS["span_and_tube"].write(span="{<t_1><t_1>}", tube="<t_1>:[<x_1><y_2><x_30><y_40>]")
    '{<t_1><t_1>} <t_1>:[<x_1><y_2><x_30><y_40>]'
    ```
    """

    name: str
    parts: tuple[str, ...]
    several: tuple[str, ...] = ()
    template: str = "{text}"

    @property
    def fields(self) -> tuple[str, ...]:
        """What `write` is given: names of parts, and `"end"` for the end of a span whose start the prompt gives."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.template) if name)

    def takes_several(self, name: str) -> bool:
        """Tell whether a field of the template may be given more than once, as `"span"` of `{span}`."""
        return name in self.several and name in self.fields

    def write(self, **fields: str | Sequence[str]) -> str:
        """Write an answer; `fields` are texts, a caption with the full stop at its end, or lists of groups."""
        written = {
            name: value if isinstance(value, str) else SEPARATORS[name].join(value) for name, value in fields.items()
        }
        return self.template.format(**written)


_ANSWER_FORMATS = (
    AnswerFormat("text", parts=("text",)),
    AnswerFormat("span", parts=("span",), template="{span}"),
    AnswerFormat("spans", parts=("span",), several=("span",), template="{span}"),
    AnswerFormat("box", parts=("box",), template="{box}"),
    AnswerFormat("tube", parts=("tube",), template="{tube}"),
    AnswerFormat("span_and_tube", parts=("span", "tube"), template="{span} {tube}"),
    AnswerFormat("spans_and_tubes", parts=("span", "tube"), several=("span", "tube"), template="{span} {tube}"),
    AnswerFormat(
        "end_caption_and_tube",
        parts=("span", "tube", "caption"),
        template="Ends in {end}, {caption} Object bounding box: {tube}",
    ),
    AnswerFormat("phrases_with_boxes", parts=("box", "caption"), several=("box", "caption")),
    AnswerFormat("sentences_with_spans", parts=("span", "caption"), several=("span", "caption")),
)
ANSWER_FORMATS: Mapping[str, AnswerFormat] = MappingProxyType({form.name: form for form in _ANSWER_FORMATS})


def get_answer_format(name: AnswerFormat | str) -> AnswerFormat:
    """Return an answer format by its name; one that is given as such is returned as it is."""
    if isinstance(name, AnswerFormat):
        return name
    if not isinstance(name, str) or name not in ANSWER_FORMATS:
        raise InputError(f"answer_format is {name!r}: give one of {', '.join(ANSWER_FORMATS)}.")
    return ANSWER_FORMATS[name]


__all__ = ["ANSWER_FORMATS", "SEPARATORS", "AnswerFormat", "get_answer_format"]
