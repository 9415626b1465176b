"""Texts of somebody else in Markdown, where they are neither markup nor a new line."""

import re

from ..processing.media_llava_st import make_printable

# Underscores inside of a word mean nothing.
_MARKUP = re.compile(r"[\\|`*~]|(?<!\w)_|_(?!\w)|\](?=[(\[])|^(?=[#+=\[-])")


def escape_markdown(text: str) -> str:
    """
    Put a text on one line, which shows as it is, also in a cell of a table.

    Example:

    ```python
    >>> escape_markdown("<b>*a*</b> | b")
    '&lt;b>\\\\*a\\\\*&lt;/b> \\\\| b'
    ```
    """
    text = " ".join(make_printable(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(lambda match: f"\\{match.group()}", text)


def write_code(text: str, is_block: bool = False) -> str:
    """Put a text on one line as code: into a line of text, or as a block of its own."""
    text = " ".join(make_printable(text).split())
    longest = max(map(len, re.findall("`+", text)), default=0)
    if is_block:
        marks = "`" * max(longest + 1, 3)
        return f"{marks}\n{text}\n{marks}"
    pad = " " if longest else ""
    return f"{'`' * (longest + 1)}{pad}{text}{pad}{'`' * (longest + 1)}"
