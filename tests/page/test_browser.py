"""The page in a real browser: `make test-page`. The model that ships answers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llava_st_hf import load_pipeline
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.demo import DEMO_QUERY, SHIPPED_CHECKPOINT, write_demo_clip

pytest.importorskip("gradio", reason="needs the extra page: make test-page")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make test-page")
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/google-chrome") if Path(path).exists()), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
SHOTS = os.environ.get("LLAVA_ST_SCREENSHOTS")
SECONDS = 1000  # milliseconds
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


SPACE = Path(__file__).parents[2] / "hub_cards" / "space" / "app.py"


def serve(log: Path, *command: str) -> tuple[subprocess.Popen, str]:
    with log.open("w") as file:
        command = [sys.executable, *(command or ("-m", "llava_st_cli", "demo", "--page"))]
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            # What a shell runs in the background ignores Ctrl-C, and so does all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    for _ in range(600):
        if address := re.search(r"^http://\S+", log.read_text(), flags=re.MULTILINE):
            return process, address[0]
        assert process.poll() is None, log.read_text()
        time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    process, address = serve(tmp_path_factory.mktemp("page") / "log.txt")
    yield address
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def clip(tmp_path):
    return write_demo_clip(tmp_path / "clip.mp4")


def open_page(browser, address, width="desktop", **options):
    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    page = browser.new_context(viewport=size, **options).new_page()
    page.foreign = []
    page.on("request", lambda request: page.foreign.append(request.url) if is_foreign(request.url, address) else None)
    page.goto(address)
    page.wait_for_selector("#ask", timeout=60 * SECONDS)
    return page


def is_foreign(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


def ask(page, path, queries, task=None):
    """Upload a file, ask, and wait for what the page says at the end."""
    page.locator("#media input[type=file]").set_input_files(str(path))
    page.wait_for_selector(f"#media :text('{Path(path).stem}')", timeout=30 * SECONDS)
    page.locator("#queries textarea").fill(queries)
    if task is not None:
        choose_task(page, task)
    page.click("#ask")


def choose_task(page, task):
    page.locator("#task input").click()
    page.locator(f"#task [role=option]:has-text('({task})')").click()


def wait_for_answer(page):
    page.wait_for_selector("#status :text-is('done')", timeout=240 * SECONDS)
    page.wait_for_selector("#view .stage > *", timeout=30 * SECONDS)


def read_answers(page):
    link = page.locator("#files a[href*='answer.json']").first.get_attribute("href")
    return json.loads(page.request.get(link).text())


def save_screenshot(page, name):
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.mark.parametrize("width", WIDTHS)
def test_answer_is_that_of_python_and_its_pixels_are_drawn(browser, address, clip, width):
    page = open_page(browser, address, width)
    ask(page, clip, DEMO_QUERY)
    wait_for_answer(page)
    (answer,) = read_answers(page)
    expected = load_pipeline(SHIPPED_CHECKPOINT)(str(clip), DEMO_QUERY, num_frames=20).to_dict()
    for name in ("text", "spans", "tubes"):
        assert answer[name] == expected[name]

    (span,) = answer["spans"]
    page.locator("#view .rail .span").click()
    page.wait_for_function(
        "start => Math.abs(document.querySelector('.llava-st-view').dataset.moment - start) < 0.02",
        arg=span["start_seconds"],
    )
    entry = min(answer["tubes"][0]["boxes"], key=lambda entry: abs(entry["seconds"] - span["start_seconds"]))
    drawn = json.loads(page.locator(".llava-st-view").get_attribute("data-boxes"))
    assert drawn == [pytest.approx([entry["box"][name] for name in ("x1", "y1", "x2", "y2")])]
    color = page.evaluate(
        """([x, y]) => {
            const canvas = document.querySelector('#view canvas'), pen = canvas.getContext('2d');
            const place = [x * canvas.width / 288, y * canvas.height / 288].map(Math.round);
            return Array.from(pen.getImageData(...place, 1, 1).data);
        }""",
        [drawn[0][2] - 0.1, (drawn[0][1] + drawn[0][3]) / 2],
    )
    assert color == [230, 159, 0, 255]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= WIDTHS[width][0]
    assert page.foreign == []
    save_screenshot(page, f"stvg_{width}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("task", ["tvg", "dvc", "rec"])
def test_tasks(browser, address, tmp_path, task, width):
    sample = ShapesDataset([task], 1, seed=2_000_001, size=144, encode=True)[0]
    path = tmp_path / ("clip.mp4" if sample.media_type == "video" else "image.png")
    path.write_bytes(sample.media[0].content)
    page = open_page(browser, address, width, color_scheme="dark")
    ask(page, path, "the red circle" if task == "rec" else DEMO_QUERY, task)
    wait_for_answer(page)
    (answer,) = read_answers(page)
    assert answer["task"] == task
    page.wait_for_timeout(SECONDS)
    boxes = json.loads(page.locator(".llava-st-view").get_attribute("data-boxes"))
    assert len(boxes) == (1 if task == "rec" else 0)
    assert page.locator("#view .rail .span").count() == len(answer["spans"])
    save_screenshot(page, f"{task}_{width}")


def test_boxes_of_a_question_can_be_hidden(browser, address, clip):
    page = open_page(browser, address)
    ask(page, clip, f"{DEMO_QUERY}\nthe purple square stops")
    wait_for_answer(page)
    assert page.locator("#view .answer").count() == 2
    page.locator("#view .rail .span").first.click()
    page.wait_for_timeout(SECONDS)
    before = json.loads(page.locator(".llava-st-view").get_attribute("data-boxes"))
    one, other = json.loads(page.locator(".llava-st-view").get_attribute("data-labels"))
    assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    page.locator("#view .answer input").first.uncheck()
    after = json.loads(page.locator(".llava-st-view").get_attribute("data-boxes"))
    assert len(after) == len(before) - 1


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_no_clip_is_said_in_words(browser, address, tmp_path, width):
    path = tmp_path / "letter.mp4"
    path.write_text("Dear reader, this is no clip.")
    page = open_page(browser, address, width)
    ask(page, path, "a dog runs")
    page.wait_for_selector("#status .error", timeout=60 * SECONDS)
    page.wait_for_function("document.querySelector('#status .error').textContent.includes('letter.mp4')")
    text = page.locator("#status").inner_text()
    assert "no clip or image that can be read" in text
    assert "/tmp" not in text
    assert "Traceback" not in text
    save_screenshot(page, f"error_{width}")


def test_three_visitors_at_once(browser, address, tmp_path):
    clips = ShapesDataset(["stvg"], 3, seed=2_000_002, size=144, encode=True)
    pages = [open_page(browser, address) for _ in range(3)]
    for number, page in enumerate(pages):
        path = tmp_path / f"clip_{number}.mp4"
        path.write_bytes(clips[number].media[0].content)
        ask(page, path, DEMO_QUERY)
    answers = []
    for page in pages:
        wait_for_answer(page)
        answers.append(read_answers(page)[0])
    ground = load_pipeline(SHIPPED_CHECKPOINT)
    for number, answer in enumerate(answers):
        expected = ground(str(tmp_path / f"clip_{number}.mp4"), DEMO_QUERY, num_frames=20)
        assert answer["text"] == expected.text


def test_stopped_by_its_visitor(browser, address, clip):
    page = open_page(browser, address)
    ask(page, clip, "\n".join([DEMO_QUERY] * 8))
    page.wait_for_selector("#status :text('tokens')", timeout=60 * SECONDS)
    page.click("#stop")
    page.wait_for_selector("#status :text-is('stopped')", timeout=60 * SECONDS)


def test_labels_and_keys(browser, address, clip):
    page = open_page(browser, address)
    ask(page, clip, DEMO_QUERY)
    wait_for_answer(page)
    rail = page.get_by_role("slider", name="time in the clip")
    before = float(rail.get_attribute("aria-valuenow"))
    rail.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('.llava-st-view').dataset.moment > before + 0.05", arg=before
    )
    assert page.get_by_role("button", name=re.compile(DEMO_QUERY)).count() >= 1
    assert page.get_by_label("Questions, one a line").count() == 1
    rail.press("Home")
    page.wait_for_function("document.querySelector('.llava-st-view').dataset.moment === '0.000'")
    page.get_by_role("button", name="play").click()
    page.wait_for_function("document.querySelector('.llava-st-view').dataset.moment > 0.2")
    page.get_by_role("button", name="pause").click()
    page.get_by_role("button", name="play").wait_for()
    page.get_by_role("button", name="full screen").click()
    page.wait_for_function("document.fullscreenElement?.querySelector('.rail .span') != null")
    page.wait_for_function(  # or the boxes would be beside the picture
        """() => ["canvas", "#view video"].map((name) => document.querySelector(name).getBoundingClientRect())
            .reduce((one, other) => one.left === other.left && one.width === other.width && one.width > 600)"""
    )
    save_screenshot(page, "full_screen")


def test_a_task_shows_the_fields_that_it_takes(browser, address, clip):
    page = open_page(browser, address)
    assert page.locator("#start, #box, #span").count() == 0
    choose_task(page, "elc")
    page.wait_for_selector("#start input")
    assert page.locator("#box").count() == 1
    assert page.locator("#span").count() == 0
    assert page.locator("#queries textarea").is_disabled()
    page.locator("#start input").fill("1.6")
    page.get_by_label("Box: left").fill("0, 162, 95, 268")
    page.locator("#media input[type=file]").set_input_files(str(clip))
    page.wait_for_selector("#media :text('clip')", timeout=30 * SECONDS)
    page.click("#ask")
    wait_for_answer(page)
    (answer,) = read_answers(page)
    assert answer["task"] == "elc"
    assert answer["tubes"]


def test_names_and_questions_are_never_markup(browser, address, clip, tmp_path):
    markup = "<img src=x onerror=document.body.dataset.ran=1>"
    path = tmp_path / f"{markup}.mp4"
    path.write_bytes(clip.read_bytes())
    page = open_page(browser, address)
    page.locator("#media input[type=file]").set_input_files(str(path))
    page.wait_for_selector("#media :text('onerror')", timeout=30 * SECONDS)
    page.locator("#queries textarea").fill(f"the purple square {markup}")
    page.click("#ask")
    wait_for_answer(page)
    for name in ("Table", "JSON"):
        page.get_by_role("button", name=name).first.click()
    page.wait_for_timeout(SECONDS)
    assert markup in page.locator("#view .answer strong").inner_text()
    path.write_bytes(b"")
    page.locator("#media [aria-label='Clear']").click()
    page.locator("#media input[type=file]").set_input_files(str(path))
    page.wait_for_timeout(2 * SECONDS)
    page.click("#ask")
    page.wait_for_selector("#status .error", timeout=60 * SECONDS)
    assert page.evaluate("document.body.dataset.ran") is None


def test_server_stopped_in_the_middle(browser, tmp_path):
    process, address = serve(tmp_path / "log.txt")
    page = open_page(browser, address)
    ask(page, write_demo_clip(tmp_path / "clip.mp4"), "\n".join([DEMO_QUERY] * 8))
    page.wait_for_selector("#status :text('tokens')", timeout=60 * SECONDS)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130)
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
    page.wait_for_selector("text=/connection|lost|error/i", timeout=60 * SECONDS)


def list_files(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_the_space_is_the_same_page_and_keeps_nothing(browser, tmp_path, clip, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with socket.create_server(("127.0.0.1", 0)) as free:  # the usual one may be that of the other page
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(free.getsockname()[1]))
    process, address = serve(tmp_path / "log.txt", str(SPACE))
    page = open_page(browser, address.replace("0.0.0.0", "127.0.0.1"))
    ask(page, clip, DEMO_QUERY)
    wait_for_answer(page)
    assert read_answers(page)[0]["spans"]
    assert {"clip.mp4", "answer.json"} <= list_files(scratch)
    page.context.close()
    for _ in range(60):
        if not {"clip.mp4", "answer.json"} & list_files(scratch):
            break
        time.sleep(0.5)
    assert not {"clip.mp4", "answer.json"} & list_files(scratch)
    page = open_page(browser, address.replace("0.0.0.0", "127.0.0.1"))
    ask(page, clip, DEMO_QUERY)
    wait_for_answer(page)
    process.send_signal(signal.SIGTERM)  # as a Space is stopped
    process.wait(60)
    assert list_files(scratch) == set()
