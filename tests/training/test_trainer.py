"""The trainer: the model's own loss, split batches, rates, order, metrics, checkpoints."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import Records, StopBelow, make_config, make_pair, make_shapes, make_trainer, read_losses
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTTrainer

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.skips import SkippedRecord, read_skip_report
from llava_st_hf.inference.loading import load_model
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.tasks_llava_st import TASKS
from llava_st_hf.training.stages import STAGES
from llava_st_hf.training.trainer import LlavaSTTrainer, find_last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
LORA = replace(STAGES["coordinate_alignment"], lora_rank=4, lora_dropout=0.0)


@pytest.fixture(scope="module")
def samples():
    return make_shapes(16)


def make_batch(trainer) -> dict[str, torch.Tensor]:
    batch = next(iter(trainer.get_train_dataloader()))
    return {name: value for name, value in batch.items() if name not in ("task_ids", "num_records")}


def test_loss_is_that_of_the_model_and_not_of_the_fused_head(checkpoint, samples, tmp_path):
    trainer = make_trainer(checkpoint, tmp_path, samples, per_device_train_batch_size=4)
    trainer.model.eval()
    batch = make_batch(trainer)
    with torch.no_grad():
        expected = LlavaSTForConditionalGeneration.from_pretrained(checkpoint).eval()(**batch).loss
        own = trainer.compute_loss(trainer.model, dict(batch))
        fused = SFTTrainer.compute_loss(trainer, trainer.model, dict(batch))
    assert torch.equal(own, expected)
    # Why the method is replaced: without an error TRL's head gives another loss.
    assert (fused - expected).abs() > 0.01


@pytest.mark.parametrize("plan", [STAGES["from_scratch"], LORA], ids=["full", "lora"])
def test_a_step_does_not_depend_on_how_its_batch_is_split(checkpoint, samples, tmp_path, plan):
    found = []
    for batch_size, accumulation in ((4, 1), (2, 2), (1, 4)):
        trainer = make_trainer(
            checkpoint,
            tmp_path,
            samples,
            plan,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_steps=2,
        )
        trainer.train()
        found.append((read_losses(trainer), read_losses(trainer, "grad_norm")))
    for losses, norms in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-4)
        assert norms == pytest.approx(found[0][1], rel=1e-3)


def test_each_module_has_the_rate_of_its_stage(checkpoint, samples, tmp_path):
    plan = replace(LORA, rows=LORA.with_learning_rates({"packer": 1e-5, "coordinate_embeddings": 3e-5}).rows)
    trainer = make_trainer(checkpoint, tmp_path, samples, plan, weight_decay=0.1)
    groups = trainer.create_optimizer().param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        wanted = {"packer": 1e-5, "coordinate_embeddings": 3e-5}.get(name.split(".")[3], 2e-4)
        assert rates.pop(id(parameter), None) == (wanted if parameter.requires_grad else None), name
    assert not rates
    assert groups[0]["lr"] == 2e-4  # the one that is logged
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
    assert make_config(tmp_path).weight_decay == 0


def test_records_come_in_their_order_and_each_once(checkpoint, samples, tmp_path):
    records = Records(samples[:7])  # the last batch is short
    trainer = make_trainer(checkpoint, tmp_path, records, max_steps=-1, num_train_epochs=2)
    trainer.train()
    assert records.read == [*range(7), *range(7)]
    assert trainer.state.global_step == 8


def test_a_resumed_run_reads_nothing_before_its_place_and_ends_equal(checkpoint, samples, tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "cosine"}
    plan = replace(LORA, lora_dropout=0.2)  # the random state counts too
    whole = make_trainer(checkpoint, tmp_path / "whole", Records(samples), plan, **settings, save_total_limit=9)
    whole.train()
    records = Records(samples)
    resumed = make_trainer(checkpoint, tmp_path / "resumed", records, plan, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert records.read[:4] == list(range(8, 12))  # and one batch ahead
    assert min(records.read) == 8
    assert read_losses(resumed) == read_losses(whole)
    for (name, value), other in zip(resumed.model.named_parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(value, other), name


def test_same_seed_same_losses(checkpoint, samples, tmp_path):
    plan = replace(LORA, lora_dropout=0.2)
    first, second, other = (
        read_losses(run)
        for run in (make_trainer(checkpoint, tmp_path, samples, plan, seed=seed) for seed in (3, 3, 4))
        if run.train()
    )
    assert first == second
    assert first != other


ANSWERS = ("red", "{<t=0.0><t=1.0>}")


def learn_by_heart(checkpoint: Path, folder: Path, answers: tuple[str, str], plan, model=None) -> LlavaSTTrainer:
    trainer = make_trainer(checkpoint, folder, make_pair(answers), plan, model, max_steps=100)
    trainer.add_callback(StopBelow(0.05))
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def learnt(checkpoint, tmp_path_factory) -> LlavaSTTrainer:
    """A tiny model that knows the answers about two clips: what is frozen later must be able to say something."""
    plan = STAGES["from_scratch"].with_learning_rates({}, default=3e-3)
    trainer = learn_by_heart(checkpoint, tmp_path_factory.mktemp("learnt"), ANSWERS, plan)
    trainer.save_model()
    return trainer


def test_one_batch_is_learnt_by_heart_from_scratch(learnt):
    losses = read_losses(learnt)
    assert losses[0] > 5
    assert losses[-1] < 0.05


@pytest.mark.parametrize("name", ["content_alignment", "coordinate_alignment", "instruction_tuning"])
def test_one_batch_is_learnt_by_heart_in_each_stage(learnt, checkpoint, tmp_path, name):
    """The answers are exchanged: what the stage trains must tell the clips apart anew."""
    plan = replace(STAGES[name], lora_rank=32, lora_dropout=0.0).with_learning_rates({}, default=3e-3)
    model = LlavaSTForConditionalGeneration.from_pretrained(learnt.args.output_dir)
    trainer = learn_by_heart(checkpoint, tmp_path, ANSWERS[::-1], plan, model)
    losses = read_losses(trainer)
    assert losses[0] > 0.5
    assert losses[-1] < 0.05


def test_skipped_records_leave_no_trace_but_a_count(checkpoint, samples, tmp_path):
    gone = SkippedRecord("7", "kitchen", "missing_media", "media is 'a.mp4', which does not exist")
    expected = make_trainer(checkpoint, tmp_path, [samples[0], samples[1]], per_device_train_batch_size=2, max_steps=1)
    expected.train()
    trainer = make_trainer(
        checkpoint, tmp_path, [samples[0], gone, samples[1], gone], per_device_train_batch_size=4, max_steps=1
    )
    trainer.train()
    assert read_losses(trainer) == pytest.approx(read_losses(expected))
    assert read_losses(trainer, "skipped_records")[0] == 2


def test_a_batch_of_skipped_records_only_is_worth_nothing(checkpoint, samples, tmp_path):
    gone = SkippedRecord("7", "kitchen", "missing_media", "media is 'a.mp4', which does not exist")
    trainer = make_trainer(checkpoint, tmp_path, [gone, gone], max_steps=1)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    with pytest.raises(InputError, match="none of the records could be used"):
        trainer.train()
    assert read_losses(trainer) == [0]
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())
    trainer = make_trainer(checkpoint, tmp_path, [gone, gone, *samples[:2]], max_steps=2)
    trainer.train()
    assert all(torch.isfinite(value).all() for value in trainer.model.parameters())
    assert read_losses(trainer)[1] > 1


def test_logs_say_what_was_learnt_and_how_fast(checkpoint, samples, tmp_path):
    trainer = make_trainer(checkpoint, tmp_path, samples, max_steps=2, per_device_train_batch_size=8)
    trainer.train()
    first = trainer.state.log_history[1]
    tasks = {sample.task for sample in samples[8:]}
    assert {name.removeprefix("loss_") for name in first if name.startswith("loss_")} == {
        "text",
        "time",
        "space",
        *tasks,
    }
    assert tasks <= set(TASKS)
    assert first["samples_per_second"] > first["clips_per_second"] > 0
    assert first["tokens_per_second"] > first["samples_per_second"]
    assert 0 < first["error_bins_first_box"] < 100
    assert first["skipped_records"] == 0


@pytest.mark.parametrize("plan", [STAGES["from_scratch"], LORA], ids=["full", "lora"])
def test_evaluation_is_the_mean_over_tokens_and_keeps_the_best(checkpoint, samples, tmp_path, plan):
    asked = []

    def evaluate_grounding(model, step):
        assert not model.training
        asked.append(step)
        return {"rec_acc@0.5": {1: 0.3, 2: 0.7, 3: 0.5}[step]}

    trainer = make_trainer(
        checkpoint,
        tmp_path,
        samples,
        plan,
        eval_records=samples[:3],
        evaluate_grounding=evaluate_grounding,
        max_steps=3,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=2,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="rec_acc@0.5",
        greater_is_better=True,
    )
    trainer.train()
    assert asked == [1, 2, 3]
    assert read_losses(trainer, "eval_rec_acc@0.5") == [0.3, 0.7, 0.5]
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert (tmp_path / "checkpoint-2").is_dir()
    best, last = (load_model(tmp_path / f"checkpoint-{step}").eval() for step in (2, 3))
    whole = trainer.data_collator.collator(samples[:3])
    whole.pop("task_ids")
    with torch.no_grad():
        expected = best(**whole).loss.item()
        assert trainer.model.eval()(**whole).loss.item() == pytest.approx(expected, rel=1e-5)
        assert last(**whole).loss.item() != pytest.approx(expected, rel=1e-5)
    assert read_losses(trainer, "eval_loss")[1] == pytest.approx(expected, rel=1e-4)


def test_skips_of_what_is_held_out_are_counted_apart_and_anew(checkpoint, samples, tmp_path):
    gone = SkippedRecord("7", "kitchen", "missing_media", "media is 'a.mp4', which does not exist")
    settings = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 2}
    trainer = make_trainer(checkpoint, tmp_path, samples, eval_records=[samples[0], gone, samples[1]], **settings)
    trainer.train()
    assert read_losses(trainer, "eval_skipped_records") == [1, 1]
    assert read_losses(trainer, "skipped_records")[-1] == 0
    assert not (tmp_path / "skipped.jsonl").exists()
    assert [one.id for one in read_skip_report(tmp_path / "skipped_held_out.jsonl")] == ["7"]
    trainer = make_trainer(checkpoint, tmp_path, samples, eval_records=[gone, gone], **settings)
    with pytest.raises(InputError, match=r"none of its records could be used, see .*skipped_held_out\.jsonl"):
        trainer.train()


@pytest.mark.parametrize("plan", [STAGES["from_scratch"], LORA], ids=["full", "lora"])
def test_each_checkpoint_loads_with_its_processor(checkpoint, samples, tmp_path, plan):
    trainer = make_trainer(checkpoint, tmp_path, samples, plan, max_steps=2, save_strategy="steps", save_steps=1)
    trainer.train()
    folder = tmp_path / "checkpoint-2"
    LlavaSTProcessor.from_pretrained(folder)
    batch = make_batch(trainer)
    labels = batch.pop("labels")
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model(**batch).logits
        assert torch.equal(LlavaSTForConditionalGeneration.from_pretrained(folder).eval()(**batch).logits, expected)
        torch.testing.assert_close(load_model(folder).eval()(**batch).logits, expected, atol=1e-5, rtol=1e-5)
    assert labels.shape == batch["input_ids"].shape


@pytest.mark.parametrize("stage", ["weights", "optimizer", "state"])
def test_a_failed_save_leaves_the_last_checkpoint(checkpoint, samples, tmp_path, monkeypatch, stage):
    settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    trainer = make_trainer(checkpoint, tmp_path, samples, **settings)
    name = {"weights": "_save", "optimizer": "_save_optimizer_and_scheduler", "state": "_save_rng_state"}[stage]
    save = getattr(trainer, name)

    def fail(folder, *args, **kwargs):
        save(folder, *args, **kwargs)
        if trainer.state.global_step == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer, name, fail)
    with pytest.raises(OSError, match="No space left"):
        trainer.train()
    assert find_last_checkpoint(tmp_path) == get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-1")
    resumed = make_trainer(checkpoint, tmp_path, samples, **settings)
    resumed.train(resume_from_checkpoint=find_last_checkpoint(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*checkpoint*")) == ["checkpoint-3"]
    assert not (tmp_path / "unfinished").exists()
    whole = make_trainer(checkpoint, tmp_path / "whole", samples, **settings)
    whole.train()
    assert read_losses(resumed) == read_losses(whole)
    shutil.rmtree(tmp_path / "whole")


def test_no_folder_has_no_checkpoint(tmp_path):
    assert find_last_checkpoint(tmp_path / "none") is None
    assert find_last_checkpoint(tmp_path) is None


def test_a_run_in_which_no_record_can_be_used_is_an_error_and_leaves_no_checkpoint(checkpoint, tmp_path):
    gone = [SkippedRecord(str(number), "kitchen", "missing_media", "it is gone") for number in range(4)]
    trainer = make_trainer(checkpoint, tmp_path, gone, save_strategy="steps", save_steps=4)
    with pytest.raises(InputError, match=r"none of the records could be used, see .*skipped\.jsonl"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))
    trainer = make_trainer(checkpoint, tmp_path, [*gone[:3], *make_shapes(1)], per_device_train_batch_size=1)
    trainer.train()  # one of them is enough


def test_logs_are_lines(checkpoint, tmp_path, capsys):
    samples = make_shapes(2)
    settings = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 2}
    make_trainer(checkpoint, tmp_path, samples, eval_records=samples, **settings).train()
    out, err = capsys.readouterr()
    assert "{" not in out + err
    lines = [line for line in err.splitlines() if line.startswith("step ")]
    assert re.match(r"step 1 of 2: loss [\d.]+, grad_norm [\d.]+, learning_rate 0.001, ", lines[0])
    assert [line.partition(",")[0].split()[:5] for line in lines[1:3]] == [
        ["step", "2", "of", "2:", "loss"],
        ["step", "2", "of", "2:", "eval_loss"],
    ]
    assert all("runtime" not in line and "skipped" not in line for line in lines)
