"""Answers that were written to a file: by `ground --json`, `GroundingResult.save`, or an evaluation."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...processing import GroundingResult, InputError
from ..readers.json_files import LINE_SUFFIXES, load_json
from ..readers.tables import read_lines


def read_answers(path: str | Path) -> list[GroundingResult]:
    """
    Read the answers of a file.

    Args:
        path (`str` or `Path`):
            JSON with an answer or a list of them, or JSONL with one a line; an answer is what `to_dict` returned, or
            stands under `result`, as in the `predictions.jsonl` of an evaluation.

    Returns:
        `list[GroundingResult]`: In the order of the file, without predictions that have no answer.

    Raises:
        `InputError`: For a file that cannot be read, or holds something else.

    Example:

    ```python
    >>> [answer.query for answer in read_answers("answers.json")]
    ['a child in a red hat', 'a dog']
    ```
    """
    results = []
    for place, values in _list_elements(Path(path)):
        is_answer = isinstance(values, Mapping)
        values = values.get("result", values) if is_answer else values
        if is_answer and values is None:
            continue  # its record could not be asked
        try:
            results.append(GroundingResult.from_dict(values))
        except InputError as error:
            raise InputError(f"{path}, {place}: {error}", field="file") from error
    return results


def _list_elements(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield what a file holds, and where."""
    if path.suffix.lower() not in LINE_SUFFIXES:
        content = load_json(path)
        for number, values in enumerate(content if isinstance(content, list) else [content], start=1):
            yield f"answer {number}", values
        return
    for number, line in read_lines(path):
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: is no JSON: {error}.", field="file") from error
