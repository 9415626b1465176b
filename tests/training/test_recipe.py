"""Recipes: what is read, what is refused, and that every YAML of the repository runs dry."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from training_runs import make_shapes

from llava_st_hf import LlavaSTConfig, LlavaSTProcessor
from llava_st_hf.data.mixture_spec import MixtureSpec
from llava_st_hf.data.shapes import ShapesDataset, write_shapes
from llava_st_hf.data.skips import SkipReport
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.training import recipe as recipe_module
from llava_st_hf.training import run as run_module
from llava_st_hf.training.recipe import read_recipe
from llava_st_hf.training.run import (
    check_settings,
    choose_checkpoint,
    describe_skips,
    prepare_folder,
    read_mixtures,
    run_recipe,
    save_whole,
    settle_num_frames,
)
from llava_st_hf.training.stages import get_stage

HELD_OUT = {"eval_st_shapes": {"num_samples": 2, "seed": 3}}
RECIPES = Path(__file__).parents[2] / "recipes"
SFT = sorted(RECIPES.glob("**/sft*.yaml"))
MINIMAL = {
    "model_name_or_path": "./base",
    "stage": "coordinate_alignment",
    "output_dir": "run",
    "st_shapes": {"task_weights": ["rec"], "num_samples": 4, "num_frames": 8, "size": 32},
}


def write(folder: Path, **changes) -> Path:
    content = {name: value for name, value in {**MINIMAL, **changes}.items() if value is not None}
    path = folder / "sft.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_paths_of_the_file_start_from_its_folder_and_those_of_the_command_do_not(tmp_path):
    path = write(tmp_path, st_shapes=None, mixture="data/mixture.yaml", resume_from_checkpoint=True)
    recipe = read_recipe(path)
    assert recipe.data.mixture == str(tmp_path / "data" / "mixture.yaml")
    assert recipe.model.model_name_or_path == str(tmp_path / "base")
    assert recipe.training.output_dir == str(tmp_path / "run")
    assert recipe.training.resume_from_checkpoint == "true"
    recipe = read_recipe(path, ["--mixture", "other.yaml", "--model_name_or_path", "owner/name"])
    assert recipe.data.mixture == "other.yaml"
    assert recipe.model.model_name_or_path == "owner/name"
    assert read_recipe(write(tmp_path, model_name_or_path="owner/name")).model.model_name_or_path == "owner/name"


@pytest.mark.parametrize(
    ("name", "greater"), [("loss", False), ("eval_loss_tvg", False), ("error_bins_span", False), ("tvg_R@0.5", True)]
)
def test_the_best_checkpoint_has_the_smallest_loss_or_the_greatest_metric(tmp_path, name, greater):
    arguments = ["--metric_for_best_model", name]
    assert read_recipe(write(tmp_path), arguments).training.greater_is_better == greater
    assert read_recipe(write(tmp_path), [*arguments, "--greater_is_better", "true"]).training.greater_is_better


def test_a_dry_run_shows_the_rates_of_the_run(tmp_path, checkpoint):
    shown = []
    run_recipe(read_recipe(write(tmp_path, model_name_or_path=str(checkpoint))), report=shown.append, dry_run=True)
    rows = [line.split() for text in shown for line in text.splitlines()]
    rates = {words[0]: float(words[-2]) for words in rows if words[0] in ("packer", "language_model")}
    plan = get_stage(MINIMAL["stage"])
    assert rates == {name: plan.get_row(name).learning_rate for name in rates}
    assert rates["packer"] != rates["language_model"]


def test_what_is_held_out_is_read_only_where_it_is_evaluated(tmp_path, stand_ins):
    mixtures = {"st_shapes": None, "mixture": str(stand_ins / "mixture.yaml")}
    (tmp_path / "none.yaml").write_text("datasets: [{json_path: none.jsonl}]\n")
    held_out = {**mixtures, "eval_mixture": "none.yaml"}
    for changes, message in (
        (held_out, "eval_mixture is .*none.yaml: .*none.jsonl"),
        ({**held_out, "eval_mixture": "nowhere.yaml"}, "eval_mixture: the mixture .*nowhere.yaml cannot be read"),
        ({**held_out, "eval_mixture": mixtures["mixture"]}, "but 4 of its records of"),
        ({**mixtures, "save_strategy": "epoch", "num_train_epochs": 2}, "save_strategy is 'epoch', but .* 2 epochs"),
    ):
        with pytest.raises(InputError, match=message):
            run_recipe(read_recipe(write(tmp_path, **changes)), dry_run=True)
    other = tmp_path / "other.yaml"
    write_shapes(tmp_path, ShapesDataset(["rec"], 2, num_frames=8, size=32))
    other.write_text("datasets: [{json_path: st_shapes.jsonl, data_folder: .}]\n")
    with pytest.raises(InputError, match=r"eval_mixture is .*other\.yaml, but eval_strategy is 'no'"):
        run_recipe(read_recipe(write(tmp_path, **{**mixtures, "eval_mixture": "other.yaml"})), dry_run=True)


def test_defaults_and_overrides(tmp_path):
    path = write(tmp_path, learning_rates={"packer": "5e-5"})
    recipe = read_recipe(path)
    assert (recipe.training.weight_decay, recipe.training.warmup_steps) == (0.0, 0.03)
    assert recipe.training.lr_scheduler_type == "cosine"
    assert recipe.training.report_to == []
    assert recipe.plan.get_row("packer").learning_rate == 5e-5
    assert recipe.plan.get_row("language_model").learning_rate == 2e-4
    recipe = read_recipe(
        path, ["--learning_rate", "1e-3", "--learning_rates", '{"packer": 2e-3}', "--lora_rank", "8", "--seed=7"]
    )
    assert recipe.plan.get_row("packer").learning_rate == 2e-3
    assert recipe.plan.get_row("language_model").learning_rate == 1e-3
    assert (recipe.plan.lora_rank, recipe.training.seed) == (8, 7)
    recipe = read_recipe(path, ["--st_shapes", '{"task_weights": ["tvg"], "num_samples": 3}'])
    assert recipe.data.st_shapes["num_samples"] == 3


def pretend_gpu(monkeypatch, capability: int, count: int = 1) -> None:
    """Let this machine seem to have GPUs of a major compute capability: 7 is Volta and Turing, 8 Ampere."""
    properties = SimpleNamespace(major=capability, total_memory=24 * 2**30)
    stand_ins = {"is_available": True, "device_count": count, "current_device": 0, "get_device_properties": properties}
    for name, value in {**stand_ins, "set_device": None, "get_device_name": "Some GPU"}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    # That it can hold bfloat16 is true of all of them, and not what counts.
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)


@pytest.mark.parametrize(
    ("capability", "arguments", "expected"),
    [
        (None, [], ("no", "float32", False)),
        (None, ["--bf16", "true", "--use_cpu", "true"], ("bf16", "auto", False)),
        (8, [], ("bf16", "auto", True)),
        (9, ["--dtype", "float32"], ("bf16", "float32", True)),
        (7, [], ("fp16", "float16", True)),
        (7, ["--bf16", "true"], ("bf16", "auto", True)),
        (8, ["--fp16", "true"], ("fp16", "float16", True)),
        (8, ["--bf16", "false"], ("no", "float32", True)),
        (8, ["--use_cpu", "true"], ("no", "float32", False)),
        ("mps", [], ("no", "float32", False)),
    ],
)
def test_precision_follows_the_device(tmp_path, monkeypatch, capability, arguments, expected):
    if capability == "mps":
        monkeypatch.setattr("transformers.training_args.is_torch_mps_available", lambda: True)
    elif capability is not None:
        pretend_gpu(monkeypatch, capability)
    recipe = read_recipe(RECIPES / "custom_grounding_lora" / "sft.yaml", [*arguments, "--output_dir", str(tmp_path)])
    training = recipe.training
    assert (training.mixed_precision, recipe.dtype, training.dataloader_pin_memory) == expected
    device = {None: "cpu", "mps": "mps"}.get(capability, "cuda")
    assert training.device.type == ("cpu" if "--use_cpu" in arguments else device)


def test_of_several_gpus_a_process_takes_the_first(tmp_path, monkeypatch):
    """TRL refuses several, after the weights are loaded."""
    pretend_gpu(monkeypatch, 8, count=2)
    training = read_recipe(write(tmp_path)).training
    assert (training.n_gpu, training.train_batch_size, training.device) == (1, 8, torch.device("cuda:0"))


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"lerning_rate": 1}, [], "unknown key 'lerning_rate': did you mean 'learning_rate'"),
        ({}, ["--mixtur", "a.yaml"], "the command line has the unknown key 'mixtur': did you mean 'mixture'"),
        ({"datasets": []}, [], r"is a mixture: write mixture: \w+\.yaml into a recipe, and train that"),
        ({}, ["--zzzzzz=3"], "the command line has the unknown key 'zzzzzz': See"),
        ({"stage": None}, [], "--stage"),
        ({"seed": "many"}, [], "seed"),
        ({"stage": "stage4"}, [], "stage is 'stage4'"),
        ({"output_dir": "a\ud800"}, [], r"output_dir is 'a\\ud800', which has characters that no name has"),
        ({"eval_mixture": "a\0b"}, [], r"eval_mixture is 'a\\x00b', which has characters"),
        ({"stage": "from_scratch", "lora_rank": 4}, [], "lora_rank is 4, but stage 'from_scratch' has no LoRA"),
        ({"learning_rates": {"packer": "fast"}}, [], "learning_rates is {'packer': 'fast'}"),
        ({"learning_rates": {"lm_head": 1e-3}}, [], "learning_rates has 'lm_head'"),
        ({}, ["--learning_rates", "{"], "is no JSON"),
        ({"st_shapes": None}, [], "give either mixture"),
        ({"mixture": "a.yaml"}, [], "give either mixture"),
        ({"eval_st_shapes": {"num_samples": 2}}, [], "seed of eval_st_shapes is 0"),
        ({"eval_st_shapes": {"seed": 3}, "eval_mixture": "a.yaml"}, [], "both given"),
        ({"st_shapes": [1]}, [], r"st_shapes is \[1\]"),
        ({"lora_rank": 1.5}, [], "lora_rank is 1.5: give a whole number"),
        ({"lora_alpha": True}, [], "lora_alpha is True: give a number"),
        ({"dtype": 16}, [], "dtype is 16: give a text"),
        ({"grounding_clips": True}, [], "grounding_clips is True: give a whole number"),
        ({"st_shapes": {"task_weights": ["rec"], "num_sample": 4}}, [], "st_shapes: .*num_sample"),
        ({"st_shapes": {"task_weights": ["rex"], "num_samples": 4}}, [], "st_shapes: task is 'rex'"),
        ({"eval_strategy": "steps", "eval_steps": 1}, [], "nothing is held out"),
        ({"st_shapes": None, "mixture": "none.yaml"}, [], "none.yaml cannot be read"),
        (
            {**HELD_OUT, "eval_strategy": "steps", "metric_for_best_model": "tvg_R@1"},
            [],
            "is 'tvg_R@1', which no eval",
        ),
        (
            {**HELD_OUT, "eval_strategy": "steps", "grounding_clips": 1, "metric_for_best_model": "rec_acc"},
            [],
            r"is 'rec_acc', which no evaluation has: choose loss, rec_acc@0\.5\.",
        ),
        ({"grounding_clips": 5}, [], "grounding_clips is 5, but eval_strategy is 'no'"),
        ({"grounding_clips": -1}, [], "grounding_clips is -1: give how many"),
        ({"report_to": "nonsense"}, [], "report_to is 'nonsense': choose none, trackio"),
        ({}, ["--report_to", "wandb"], "report_to is 'wandb', which is not installed: pip install wandb"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path, monkeypatch, changes, overrides, message):
    monkeypatch.setattr(recipe_module, "get_available_reporting_integrations", lambda: ["trackio"])
    path = write(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        run_recipe(read_recipe(path, overrides), dry_run=True)


@pytest.mark.parametrize("text", ["[1, 2]", "a: b: c", ""])
def test_files_that_are_no_recipe(tmp_path, text):
    path = tmp_path / "sft.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"sft\.yaml"):
        read_recipe(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")


def test_a_run_is_never_gone_on_with_by_accident(tmp_path):
    recipe = read_recipe(write(tmp_path))
    assert choose_checkpoint(recipe.training) is None
    recipe.training.resume_from_checkpoint = "true"
    assert choose_checkpoint(recipe.training) is None
    (tmp_path / "run" / "checkpoint-3").mkdir(parents=True)
    assert choose_checkpoint(recipe.training) == str(tmp_path / "run" / "checkpoint-3")
    recipe.training.resume_from_checkpoint = str(tmp_path / "none")
    with pytest.raises(InputError, match="which is no folder"):
        choose_checkpoint(recipe.training)
    recipe.training.resume_from_checkpoint = None
    with pytest.raises(InputError, match="holds checkpoint-3 of a run"):
        choose_checkpoint(recipe.training)


def test_a_run_goes_on_with_the_settings_it_began_with(tmp_path):
    path = write(tmp_path)
    prepare_folder(read_recipe(path), resumes=False)
    (tmp_path / "run" / "checkpoint-3").mkdir()
    resumed = ["--resume_from_checkpoint", "true"]
    check_settings(read_recipe(path, resumed))
    prepare_folder(read_recipe(path, resumed), resumes=True)
    with pytest.raises(InputError, match="with seed=42, and now seed is 1"):
        check_settings(read_recipe(path, [*resumed, "--seed", "1"]))
    with pytest.raises(InputError, match="and now num_frames is 4"):
        check_settings(read_recipe(path, [*resumed, "--num_frames", "4"]))


def test_a_run_that_begins_anew_takes_nothing_of_one_that_failed(tmp_path):
    recipe = read_recipe(write(tmp_path))
    prepare_folder(recipe, resumes=False)
    run = tmp_path / "run"
    (run / "skipped.jsonl").write_text("{}\n")
    (run / "grounding" / "step-2").mkdir(parents=True)
    prepare_folder(recipe, resumes=False)
    assert [path.name for path in run.iterdir()] == ["run.json"]


class Saver:
    """What `save_whole` asks of a trainer."""

    def __init__(self, fails: bool = False):
        self.fails = fails
        self.accelerator = SimpleNamespace(wait_for_everyone=lambda: None)
        self.args = SimpleNamespace(should_save=True)

    def save_model(self, folder: str, _internal_call: bool) -> None:
        Path(folder).mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (Path(folder) / name).write_text(name)
            if self.fails:
                raise OSError("the disk is full")

    def describe(self, folder: Path) -> None:
        for name in ("README.md", "training.json"):
            (folder / name).write_text(name)


def test_what_is_saved_appears_whole(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="full"):
        save_whole(Saver(fails=True), tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
    moved = []
    move = run_module.move_whole
    monkeypatch.setattr(run_module, "move_whole", lambda path, target: (moved.append(path.name), move(path, target)))
    save_whole(Saver(), tmp_path)
    assert moved == ["README.md", "adapter_model.safetensors", "training.json", "adapter_config.json"]


def test_boxes_are_for_the_frames_that_are_sampled(tmp_path, checkpoint):
    def read(mixture_frames, recipe_frames):
        (tmp_path / "mixture.yaml").write_text(f"num_frames: {mixture_frames}\ndatasets: [{{json_path: a.jsonl}}]\n")
        data = read_recipe(write(tmp_path, st_shapes=None, mixture="mixture.yaml", num_frames=recipe_frames)).data
        return read_mixtures(data)[0].num_frames, data

    assert read(8, None)[0] == read("null", 8)[0] == read(8, 8)[0] == read(8, None)[1].num_frames == 8
    with pytest.raises(InputError, match="num_frames is 4 in the recipe, but 8 in"):
        read(8, 4)
    # What is held out may say it for both.
    held_out = {"st_shapes": None, "mixture": "mixture.yaml", "eval_mixture": "held_out.yaml"}
    (tmp_path / "held_out.yaml").write_text("num_frames: 8\ndatasets: [{json_path: b.jsonl}]\n")
    (tmp_path / "mixture.yaml").write_text("datasets: [{json_path: a.jsonl}]\n")
    assert [spec.num_frames for spec in read_mixtures(read_recipe(write(tmp_path, **held_out)).data)] == [8, 8]
    (tmp_path / "mixture.yaml").write_text("num_frames: 4\ndatasets: [{json_path: a.jsonl}]\n")
    with pytest.raises(InputError, match=r"num_frames is 4 in \S*mixture.yaml, but 8 in \S*held_out.yaml"):
        read_mixtures(read_recipe(write(tmp_path, **held_out)).data)
    # What a mixture says holds though the processor samples another number.
    (tmp_path / "mixture.yaml").write_text("num_frames: 5\ndatasets: [{json_path: a.jsonl}]\n")
    recipe = read_recipe(write(tmp_path, st_shapes=None, mixture="mixture.yaml", model_name_or_path=str(checkpoint)))
    settle_num_frames(recipe)
    assert [spec.num_frames for spec in read_mixtures(recipe.data) if spec is not None] == [5]
    (tmp_path / "mixture.yaml").write_text("datasets: [{json_path: a.jsonl}]\n")
    # Where nobody says it, what the processor samples holds.
    recipe = read_recipe(write(tmp_path, st_shapes=None, mixture="mixture.yaml", model_name_or_path=str(checkpoint)))
    settle_num_frames(recipe)
    assert recipe.data.num_frames == LlavaSTProcessor.from_pretrained(checkpoint).video_processor.num_frames


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory, checkpoint) -> Path:
    """Configs of the large models without weights, and a mixture of four records: what no checkout has is replaced."""
    folder = tmp_path_factory.mktemp("stand_ins")
    LlavaSTConfig(dtype="bfloat16").save_pretrained(folder / "sft")
    qwen2_half_billion = {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 152000,
        "tie_word_embeddings": True,
    }
    LlavaSTConfig(text_config=qwen2_half_billion, dtype="bfloat16").save_pretrained(folder / "sft_0.5b")
    for name in ("sft", "sft_0.5b"):
        (folder / name / "model.safetensors").touch()  # no weight is read
        LlavaSTProcessor.from_pretrained(checkpoint).save_pretrained(folder / name)
    dataset = ShapesDataset(["rec"], 4, num_frames=8, size=32)
    name = write_shapes(folder, dataset).name
    (folder / "mixture.yaml").write_text(f"datasets:\n  - json_path: {name}\n    data_folder: .\n")
    other = write_shapes(folder / "held_out", ShapesDataset(["rec"], 2, seed=9, num_frames=8, size=32)).name
    (folder / "held_out.yaml").write_text(f"datasets:\n  - json_path: held_out/{other}\n    data_folder: held_out\n")
    return folder


@pytest.mark.parametrize("path", SFT, ids=[str(path.relative_to(RECIPES)) for path in SFT])
def test_every_recipe_runs_dry(path, stand_ins, checkpoint):
    is_tiny = "tiny" in path.relative_to(RECIPES).parts
    overrides = ["--model_name_or_path", str(checkpoint if is_tiny else stand_ins / path.stem)]
    if not is_tiny:
        overrides += ["--mixture", str(stand_ins / "mixture.yaml"), "--dtype", "auto"]
        data = read_recipe(path).data
        if data.eval_mixture is not None:
            overrides += ["--eval_mixture", str(stand_ins / "held_out.yaml")]
        for mixture in filter(None, (data.mixture, data.eval_mixture)):
            if Path(mixture).parent == path.parent:  # else it comes with the data
                MixtureSpec.from_yaml(mixture)
    shown = []
    recipe = read_recipe(path, overrides)
    run_recipe(recipe, report=shown.append, dry_run=True)
    table = next(text for text in shown if text.startswith(f"stage {recipe.plan.name}"))
    name, num_parameters, num_trained = table.splitlines()[-1].replace(",", "").split()
    assert name == "total"
    assert int(num_trained) > 0
    assert int(num_parameters) > (1e5 if is_tiny else 8e9 if path.stem == "sft" else 9e8)
    assert ("st_shapes        4       4" if not is_tiny else "ST-Shapes") in shown[0]
    assert (path.parent / "README.md").is_file() or is_tiny


def test_published_hyperparameters():
    recipes = {stage: read_recipe(next(RECIPES.glob(f"stage{stage}_*/sft.yaml"))) for stage in (1, 2, 3)}
    for stage, recipe in recipes.items():
        batch = (recipe.training.per_device_train_batch_size, recipe.training.gradient_accumulation_steps)
        assert batch == ((4, 2) if stage == 1 else (2, 2))
        assert (recipe.training.warmup_steps, recipe.training.weight_decay) == (0.03, 0)
        assert (recipe.training.num_train_epochs, recipe.training.max_length) == (1, 32768)
        assert recipe.training.activation_checkpointing


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate_configs").glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_configs_are_read(path):
    config = load_config_from_file(str(path))
    assert config.num_processes % config.num_machines == 0
    if path.stem == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2


def test_shapes_of_the_tests_are_those_of_the_data_set():
    assert [sample.id for sample in make_shapes(2)] == ["st-shapes/0/0", "st-shapes/0/1"]


def test_the_end_of_a_run_says_what_was_put_right(tmp_path):
    report = SkipReport(tmp_path / "skipped.jsonl")
    report.use("1", "kitchen", [("clamped_coordinate", "a[0] is 1.02, which counts as the edge")])
    assert describe_skips(report.path).splitlines() == [
        "no record was skipped",
        "1 record of kitchen used with clamped_coordinate",
    ]
