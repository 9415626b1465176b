"""Cards of repositories on the Hub, rendered from the templates of `assets/card_templates`."""

from pathlib import Path
from typing import Any

from huggingface_hub import CardData

_TEMPLATES = Path(__file__).parents[1] / "assets" / "card_templates"


def render_card(template: str, data: CardData, **values: Any) -> str:
    """
    Render a template that may include others, in which nothing may be left open.

    Args:
        template (`str`): Name of its file, without `.md.jinja`.
        data (`huggingface_hub.CardData`): The metadata of the Hub, which stand in front.
        values (`dict[str, Any]`): What the template asks for.

    Returns:
        `str`: Markdown.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(_TEMPLATES)
    options = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    templates = Environment(loader=loader, undefined=StrictUndefined, **options)
    return templates.get_template(f"{template}.md.jinja").render(card_data=data.to_yaml(), **values).rstrip() + "\n"
