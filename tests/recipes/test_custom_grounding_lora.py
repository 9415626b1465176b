"""Ten clips become an adapter, and a merged model that answers, by the commands of the recipe's README."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from llava_st_cli import main
from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.demo import SHIPPED_CHECKPOINT

RECIPE = Path(__file__).parents[2] / "recipes" / "custom_grounding_lora"
HELD_OUT = "8665030691.mp4"

pytestmark = pytest.mark.usefixtures("one_thread")


def write_ten(folder: Path, real_media: Path) -> list[dict]:
    """Write ten records of real clips, those of one clip last, and copy the clips."""
    rows = [json.loads(line) for line in (real_media / "annotations.jsonl").read_text().splitlines()]
    rows = [row for row in rows if len(row.get("boxes_by_second", ())) > 2]
    held_out = [row for row in rows if row["file"] == HELD_OUT]
    records = [
        {
            "video": row["file"],
            "query": row["query"].partition("?")[0],
            "span_seconds": row["span_seconds"],
            "boxes": row["boxes_by_second"],
        }
        for row in [*[row for row in rows if row["file"] != HELD_OUT][:8], *held_out]
    ]
    assert len(records) == 10
    (folder / "my_videos").mkdir()
    for name in {record["video"] for record in records}:
        shutil.copy(real_media / name, folder / "my_videos")
    (folder / "my_data.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return records


def read_commands() -> list[list[str]]:
    """Return the commands of the README, with what stands for a user's choice as it is there."""
    block = re.search(r"```bash\n(.*?)```", (RECIPE / "README.md").read_text(), re.DOTALL)[1]
    return [line.split() for line in block.splitlines() if line.startswith("llava-st")]


def test_the_readme_names_commands_and_files_that_there_are():
    commands = read_commands()
    assert [words[1] for words in commands] == ["data", "train", "train", "ground", "info", "merge", "ground"]
    text = (RECIPE / "README.md").read_text()
    assert all(f"`{path.name}`" in text for path in RECIPE.glob("*.yaml"))


# With what a GPU is given: a checkpoint in bfloat16, which `dtype: auto` follows, and autocast to it.
@pytest.mark.slow
@pytest.mark.parametrize("as_on_a_gpu", [False, True])
def test_ten_clips_become_a_merged_model_that_answers(tmp_path, real_media_dir, monkeypatch, capsys, as_on_a_gpu):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RECIPE, "my_run")
    records = write_ten(Path("my_run"), real_media_dir)
    clip, query = records[-1]["video"], records[-1]["query"]
    model, precision = str(SHIPPED_CHECKPOINT), []
    if as_on_a_gpu:
        LlavaSTForConditionalGeneration.from_pretrained(model, dtype=torch.bfloat16).save_pretrained("base")
        LlavaSTProcessor.from_pretrained(model).save_pretrained("base")
        model, precision = "base", ["--bf16", "true", "--use_cpu", "true"]

    def run(words: list[str]) -> str:
        assert main([model if word == "$MODEL" else word for word in words]) == 0
        captured = capsys.readouterr()
        assert "{'loss'" not in captured.out + captured.err
        return captured.out + captured.err

    check, dry, train, *_, info, merge, _ = (words[1:] for words in read_commands())
    assert "mine    stvg        8" in run(check)
    assert run([*dry, *precision]).count("mine    stvg") == 2
    assert not Path("my_run/output").exists()
    output = run([*train, *precision])
    frozen = re.search(r"^vision_tower .*", output, re.MULTILINE)[0].split()[-1]
    assert frozen == ("bfloat16" if as_on_a_gpu else "float32")
    assert re.search(r"^step 5 of 20: loss [\d.]+, ", output, re.MULTILINE)
    card = Path("my_run/output/README.md").read_text()
    assert f"| `bf16` | {as_on_a_gpu} |" in card
    assert "| stvg_m_tIoU | " in card and "| mine | unknown | not stated | 8 | 8 |" in card and "{{" not in card
    assert "adapter: LORA of rank 16, alpha 32" in run(info)
    run(merge)
    answers = [
        run(["ground", f"my_run/my_videos/{clip}", query, "--model", f"my_run/{name}"])
        for name in ("output", "merged")
    ]
    spans = [re.search(r"^span: ([\d.]+ s to [\d.]+ s)", answer, re.MULTILINE)[1] for answer in answers]
    assert spans[0] == spans[1]
    assert "The adapter `output`, merged into its base" in Path("my_run/merged/README.md").read_text()
