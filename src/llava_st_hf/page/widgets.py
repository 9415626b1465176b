"""What stands on the page: fields to ask in, and where the answer is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..processing import TASKS
from .answer_view import TABLE_HEADERS, VIEW_CSS, VIEW_HTML, VIEW_SCRIPT
from .answering import PageLimits
from .examples import ExampleClip, make_thumbnail

USUAL_TASK = "the usual one"
# Those of Gradio have a contrast of less than 4.5.
COLORS = {
    **{f"button_primary_background_fill{mode}": "*primary_700" for mode in ("", "_dark")},
    **{f"button_primary_background_fill_hover{mode}": "*primary_800" for mode in ("", "_dark")},
    "body_text_color_subdued": "*neutral_500",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_400",
}
PAGE_CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_QUERIES = "Questions, one a line"


def make_inputs(
    gr: Any, examples: Sequence[ExampleClip], default_frames: int, limits: PageLimits
) -> tuple[dict[str, Any], Any]:
    """Make the fields, in the order in which the handler takes them, and the gallery if there are examples."""
    gallery = None
    if examples:
        thumbnails = [(make_thumbnail(item), item.path.stem) for item in examples]
        gallery = gr.Gallery(
            thumbnails, label="Clips to try", columns=4, allow_preview=False, buttons=[], elem_id="gallery"
        )
    media = gr.File(
        label=f"Clip or image (at most {limits.max_megabytes} MB, {limits.max_seconds:.0f} s)",
        file_types=["video", "image"],
        type="filepath",
        height=150,
        elem_id="media",
    )
    with gr.Accordion("Take a picture", open=False):
        camera = gr.Image(sources=["webcam"], type="filepath", label="Camera", elem_id="camera")
        camera.change(lambda path: path, camera, media, show_progress="hidden")
    queries = gr.Textbox(label=_QUERIES, lines=3, elem_id="queries", placeholder="a child holds a bat")
    # What a task does without what goes in and comes out, which the fields and the answer show.
    words = {task.name: task.description.partition(":")[0].rstrip(".") for task in TASKS.values()}
    tasks = [USUAL_TASK, *((f"{text} ({name})", name) for name, text in words.items())]
    task = gr.Dropdown(
        tasks,
        value=USUAL_TASK,
        label="Task",
        info="The usual one: when and where in a clip, where in an image.",
        elem_id="task",
    )
    span = gr.Textbox(
        label="Span: start, end in seconds", placeholder="1.5, 3", max_lines=1, visible=False, elem_id="span"
    )
    start = gr.Number(None, label="Start of the event in seconds", visible=False, elem_id="start")
    box = gr.Textbox(
        label="Box: left, top, right, bottom in pixels",
        placeholder="0, 162, 95, 268",
        max_lines=1,
        visible=False,
        elem_id="box",
    )
    with gr.Accordion("Frames, part of the clip", open=False):
        frames = gr.Number(default_frames, label=f"Frames (1 to {limits.max_frames})", precision=0)
        with gr.Row():
            first = gr.Number(None, label="From (seconds)", min_width=100)
            last = gr.Number(None, label="To (seconds)", min_width=100)
    fields = {"media": media, "task": task, "queries": queries, "frames": frames, "first": first, "last": last}
    return {**fields, "span": span, "start": start, "box": box}, gallery


def show_needed(gr: Any, task: str) -> list[Any]:
    """Show the fields that a task takes, and those only."""
    needs = TASKS[task].needs if task in TASKS else ("query",)
    label = _QUERIES if "query" in needs else "This task takes no question"
    fields = [gr.update(visible=name in needs) for name in ("span", "start", "box")]
    return [gr.update(label=label, interactive="query" in needs), *fields]


def make_status(gr: Any) -> Any:
    """Make the line that says how far it is, or what is wrong."""
    return gr.HTML(
        {"status": "", "is_error": False},
        html_template=(
            '<div class="status" role="status" aria-live="polite"><span class='
            "\"${value.is_error ? 'error' : ''}\"></span></div>"
        ),
        js_on_load=(
            "const tell = () => { element.querySelector('span').textContent = props.value.status || ''; };"
            "watch('value', tell); tell();"
        ),
        elem_id="status",
        padding=False,
    )


def make_outputs(gr: Any) -> tuple[list[Any], Any]:
    """Make where the answer is shown, and the column of its details, which is there once there is an answer."""
    view = gr.HTML(
        None, html_template=VIEW_HTML, css_template=VIEW_CSS, js_on_load=VIEW_SCRIPT, elem_id="view", padding=False
    )
    with gr.Column(visible=False) as details:
        with gr.Accordion("Table", open=False):
            table = gr.Dataframe(headers=TABLE_HEADERS, interactive=False, label="Spans and boxes", elem_id="table")
        with gr.Accordion("JSON", open=False):
            values = gr.JSON(label="Answer", elem_id="json")
        files = gr.Files(label="Files", interactive=False, elem_id="files")
    return [view, table, values, files], details
