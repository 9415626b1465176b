"""The page: clips to choose, questions, the answer over the clip, tables and files."""

import hashlib
import os
import queue
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..inference import SpatialTemporalGroundingPipeline
from ..processing import GroundingResult, InputError, open_image
from ..utils.atomic_files import write_json_whole
from ..utils.markdown import escape_markdown
from ..utils.public_names import hide_folders
from ..visualization import draw_on_image, save_picture, write_annotated_video, write_contact_sheet
from .answer_view import list_rows, make_view
from .answering import Answerer, Cancelled, PageLimits, describe_error
from .examples import ExampleClip, write_example_clips
from .preview import write_preview
from .widgets import COLORS, PAGE_CSS, USUAL_TASK, make_inputs, make_outputs, make_status, show_needed

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing leaves the machine

_SHOWN = ("view", "table", "json", "files")  # of an answer, in the order of the outputs
_KEPT_SECONDS = 3600  # of an upload whose visitor does not come back


@dataclass
class _Page:
    """What the handlers of one page share."""

    answerer: Answerer
    folder: Path
    examples: Sequence[ExampleClip]
    default_frames: int
    stops: dict[str, threading.Event] = field(default_factory=dict)
    uploads: dict[str, set[Path]] = field(default_factory=dict)

    def choose_example(self, event: Any) -> tuple[str, str]:
        example = self.examples[event.index]
        return str(example.path), "\n".join(example.queries)

    def remember(self, path: str | None, request: Any) -> None:
        """Note what a visitor uploaded or chose: Gradio keeps it, one copy for all who have the same."""
        if path:
            self.uploads.setdefault(request.session_hash, set()).add(Path(path))

    def answer(
        self,
        path: str | None,
        task: str,
        queries: str,
        num_frames: float | None,
        first: float | None,
        last: float | None,
        span: str,
        start: float | None,
        box: str,
        request: Any,
    ) -> Iterator[dict[str, Any]]:
        """Answer, saying how far it is; `stop` ends it."""
        task_name = None if task == USUAL_TASK else task
        stopped = self.stops[request.session_hash] = threading.Event()
        try:
            media_type = self.answerer.check_media(path)
            needs = self.answerer.find_task(task_name, media_type).needs
            given = {name: value for name, value in {"span": span, "box": box}.items() if name in needs}
            options = self._read_options(media_type, num_frames, first, last, given)
            options["start_seconds"] = start if "start" in needs else None
        except Exception as error:  # noqa: BLE001 - as below
            yield {"status": describe_error(error), "is_error": True}
            return
        asked = [line.strip() for line in (queries or "").splitlines() if line.strip()] or [""]
        news: queue.Queue = queue.Queue()

        def on_token(number: int, num_tokens: int) -> None:
            if stopped.is_set():
                raise Cancelled
            news.put({"status": f"question {number + 1} of {len(asked)}: {num_tokens} tokens"})

        def work() -> None:
            try:
                results = self.answerer.ask(path, media_type, task_name, asked, on_token, **options)
                news.put({"status": "drawing"})
                finished = self._present(results, path, media_type, self._find_folder(request))
                news.put({"finished": finished, "status": "done"})
            except Cancelled:
                news.put({"status": "stopped", "is_error": True})
            except Exception as error:  # noqa: BLE001 - a visitor gets a sentence, the log the rest
                news.put({"status": describe_error(error), "is_error": True})
            news.put(None)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            yield {"status": f"reading {Path(path).name}"}
            while (item := news.get()) is not None:
                yield item
        finally:
            stopped.set()  # where the visitor has left
            worker.join()

    def _read_options(
        self,
        media_type: str,
        num_frames: float | None,
        first: float | None,
        last: float | None,
        given: dict[str, str],
    ) -> dict[str, Any]:
        limit = self.answerer.limits.max_frames
        options: dict[str, Any] = {}
        if media_type == "video":
            if not num_frames or not 1 <= num_frames <= limit:
                raise InputError(f"frames is {num_frames}: give a number from 1 to {limit}.")
            options["num_frames"] = int(num_frames)
            if (first is None) != (last is None):
                raise InputError("the part of the clip has only one end: give both seconds, or none.")
            if first is not None:
                options["time_range"] = (float(first), float(last))
        for name, text in given.items():
            length = {"span": 2, "box": 4}[name]
            try:
                options[name] = tuple(float(part) for part in (text or "").replace(";", ",").split(","))
            except ValueError:
                options[name] = ()
            if len(options[name]) != length:
                raise InputError(f"{name} is {text or ''!r}: give {length} numbers with commas between them.")
        return options

    def _find_folder(self, request: Any) -> Path:
        """Return the folder of a visitor, whose hash is what the browser says: it may be the name of any folder."""
        return self.folder / hashlib.sha256(str(request.session_hash).encode()).hexdigest()

    def _present(
        self, results: Sequence[GroundingResult], path: str, media_type: str, visitor: Path
    ) -> dict[str, Any]:
        """Write what the page shows, in a folder of this answer; those of the visitor's earlier ones are removed."""
        visitor.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=visitor))
        try:
            presented = _write_files([_without_folder(result) for result in results], path, media_type, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for earlier in visitor.iterdir():
            if earlier != folder:
                shutil.rmtree(earlier, ignore_errors=True)
        return presented

    def stop(self, request: Any) -> str:
        if request.session_hash in self.stops:
            self.stops[request.session_hash].set()
        return "stopping"

    def forget(self, request: Any) -> None:
        """Remove what a visitor has left behind."""
        self.stop(request)
        self.stops.pop(request.session_hash, None)
        shutil.rmtree(self._find_folder(request), ignore_errors=True)
        for path in self.uploads.pop(request.session_hash, set()):
            if path.is_relative_to(self.folder) and not any(path in kept for kept in self.uploads.values()):
                path.unlink(missing_ok=True)


def _without_folder(result: GroundingResult) -> GroundingResult:
    """Return an answer that names its clip without the folder on this machine."""
    media = result.media
    if media is None or media.source is None:
        return result
    return replace(result, media=replace(media, source=Path(media.source).name))


def _write_files(results: Sequence[GroundingResult], path: str, media_type: str, folder: Path) -> dict[str, Any]:
    preview = write_preview(path, media_type, folder)
    values = [result.to_dict() for result in results]
    files = [folder / "answer.json", folder / "answer.png"]
    write_json_whole(files[0], values)
    if media_type == "video":
        files.append(folder / "answer.mp4")
        write_contact_sheet(path, results, files[1])
        write_annotated_video(path, results, files[2])
    else:
        save_picture(draw_on_image(open_image(path), results), files[1])
    return {
        "view": make_view(results, preview, media_type),
        "table": list_rows(results),
        "json": values,
        "files": [str(file) for file in files],
    }


def build_page(
    pipeline: SpatialTemporalGroundingPipeline,
    folder: Path,
    examples: Sequence[ExampleClip] = (),
    notice: str = "",
    default_frames: int = 100,
    limits: PageLimits | None = None,
) -> Any:
    """
    Build the page.

    Args:
        pipeline (`SpatialTemporalGroundingPipeline`): Who answers.
        folder (`Path`): Where previews and answers lie while a visitor is there.
        examples (`Sequence[ExampleClip]`, *optional*): Clips to choose from.
        notice (`str`, *optional*): What is said about the model above everything, as plain text.
        default_frames (`int`, *optional*, defaults to 100): Frames of a clip where the visitor does not say.
        limits (`PageLimits`, *optional*): What a visitor may ask for.

    Returns:
        `gradio.Blocks`: The page; `launch_page` serves it.
    """
    gr = require_gradio()
    limits = limits or PageLimits()
    page = _Page(Answerer(pipeline, limits), folder, examples, default_frames)
    with gr.Blocks(title="LLaVA-ST: when and where", delete_cache=(600, _KEPT_SECONDS)) as blocks:
        gr.Markdown(f"# When and where\n\n{escape_markdown(hide_folders(notice))}")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                inputs, gallery = make_inputs(gr, examples, default_frames, limits)
                with gr.Row(elem_id="buttons"):
                    ask = gr.Button("Ask", variant="primary", elem_id="ask", min_width=80)
                    stop = gr.Button("Stop", elem_id="stop", min_width=80)
                status = make_status(gr)
            with gr.Column(scale=3, min_width=320):
                outputs, details = make_outputs(gr)
        handlers = _make_handlers(gr, page)
        asked, shown = list(inputs.values()), [status, details, *outputs]
        quiet = {"show_progress": "hidden"}
        gr.on([ask.click, inputs["queries"].submit], handlers["answer"], asked, shown, concurrency_limit=1, **quiet)
        stop.click(handlers["stop"], None, status, queue=False, **quiet)
        inputs["media"].change(handlers["remember"], inputs["media"], None, queue=False, **quiet)
        needed = [inputs[name] for name in ("queries", "span", "start", "box")]
        inputs["task"].change(lambda task: show_needed(gr, task), inputs["task"], needed, queue=False, **quiet)
        if gallery is not None:
            gallery.select(handlers["choose"], None, [inputs["media"], inputs["queries"]], **quiet)
        blocks.unload(handlers["forget"])
    blocks.queue(max_size=limits.max_waiting)
    return blocks


def _make_handlers(gr: Any, page: _Page) -> dict[str, Callable]:
    """Return what answers the events of the page, as Gradio takes it: it counts parameters by names and types."""

    def answer(path, task, queries, frames, first, last, span, start, box, request: gr.Request) -> Iterator[Any]:
        for item in page.answer(path, task, queries, frames, first, last, span, start, box, request):
            told = {"status": item["status"], "is_error": item.get("is_error", False)}
            done = item.get("finished")
            shown = [gr.skip()] * len(_SHOWN) if done is None else [done[name] for name in _SHOWN]
            yield [told, gr.skip() if done is None else gr.Column(visible=True), *shown]

    def choose(event: gr.SelectData) -> tuple[str, str]:
        return page.choose_example(event)

    def remember(path, request: gr.Request) -> None:
        page.remember(path, request)

    def stop(request: gr.Request) -> dict[str, Any]:
        return {"status": page.stop(request), "is_error": False}

    def forget(request: gr.Request) -> None:
        page.forget(request)

    return {"answer": answer, "choose": choose, "remember": remember, "stop": stop, "forget": forget}


def launch_page(
    pipeline: SpatialTemporalGroundingPipeline,
    examples: Sequence[ExampleClip] | None = None,
    notice: str = "",
    default_frames: int = 100,
    limits: PageLimits | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """
    Serve the page until it is interrupted; what visitors leave is removed then.

    Args:
        pipeline (`SpatialTemporalGroundingPipeline`): Who answers.
        examples (`Sequence[ExampleClip]`, *optional*): Clips to choose from; of ST-Shapes where it is left out.
        notice (`str`, *optional*): What is said about the model, as plain text.
        default_frames (`int`, *optional*, defaults to 100): Frames of a clip where the visitor does not say.
        limits (`PageLimits`, *optional*): What a visitor may ask for.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): Address to listen on; `"0.0.0.0"` for all.
        port (`int`, *optional*): Port; the first free one from 7860 where it is left out.
        on_ready (`Callable[[str], None]`, *optional*): Called with the address when the page can be opened.

    Raises:
        `InputError`: If gradio is not installed, or the port is taken.
    """
    gr = require_gradio()
    limits = limits or PageLimits()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # or `kill` would leave the uploads on the disk
    with tempfile.TemporaryDirectory(prefix="llava-st-page-") as name:
        folder = Path(name).resolve()
        visits = folder / "visits"
        visits.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(visits)  # or uploads would lie in a folder that outlives the page
        examples = write_example_clips(folder) if examples is None else examples
        blocks = build_page(pipeline, visits, examples, notice, default_frames, limits)
        try:
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                allowed_paths=[str(folder)],
                max_file_size=limits.max_megabytes * 2**20,
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
                    **COLORS
                ),
                css=PAGE_CSS,
                footer_links=[],
                quiet=True,
                ssr_mode=False,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise InputError(f"port is {port}: {error}", field="port") from error
        if on_ready is not None:
            on_ready(address)
        try:
            blocks.block_thread()
        finally:
            blocks.close(verbose=False)


def require_gradio() -> Any:
    """Return the module; `InputError` where it is not installed."""
    try:
        import gradio
    except ImportError as error:
        raise InputError("the page needs gradio: pip install 'llava-st-hf[page]'") from error
    return gradio
