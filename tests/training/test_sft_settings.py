"""Every field of the installed SFTConfig acts, cannot matter, or is refused before anything is loaded."""

from dataclasses import fields

import pytest
from trl import SFTConfig

from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.training.recipe import LlavaSTTrainingConfig
from llava_st_hf.training.sft_settings import ACTS, CANNOT_MATTER, NEEDS, REFUSED

# Of fields whose default is a text or nothing, a value that somebody might give.
VALUES = {
    "model_init_kwargs": {"dtype": "float32"},
    "router_aux_loss_coef": 0.1,
    "dataset_kwargs": {"skip_prepare_dataset": False},
    "dataset_num_proc": 4,
    "truncation_mode": "keep_end",
    "packing_strategy": "wrapped",
    "eval_packing": True,
    "pad_to_multiple_of": 8,
    "completion_only_loss": True,
    "loss_type": "dft",
    "liger_kernel_config": {"rope": True},
    "neftune_noise_alpha": 5.0,
    "eval_accumulation_steps": 4,
    "include_for_metrics": ["loss"],
    "data_seed": 7,
    "accelerator_config": {"split_batches": True},
    "parallelism_config": {},
    "label_names": ["labels"],
    "train_sampling_strategy": "group_by_length",
    "hub_private_repo": False,
    "dataloader_prefetch_factor": 2,
    "fsdp_config": {"min_num_params": 1},
    "label_smoothing_factor": 0.1,
}


def find_value(name: str):
    default = next(field.default for field in fields(LlavaSTTrainingConfig) if field.name == name)
    return VALUES.get(name, not default if isinstance(default, bool) else "other")


def test_every_field_of_the_installed_trl_stands_in_the_table_once():
    tables = [*ACTS, *CANNOT_MATTER, *REFUSED]
    assert len(tables) == len(set(tables))
    assert {field.name for field in fields(SFTConfig)} == set(tables)
    assert set(NEEDS) | set(NEEDS.values()) <= ACTS


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_act_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=rf"^{name} is .*, which cannot act: .*\. Leave it out\.$") as caught:
        LlavaSTTrainingConfig(output_dir=str(tmp_path), **{name: find_value(name)})
    assert REFUSED[name] in str(caught.value)


@pytest.mark.parametrize(("name", "other"), NEEDS.items())
def test_what_acts_only_with_another_field_is_refused_alone(tmp_path, name, other):
    with pytest.raises(InputError, match=rf"^{name} is .*, but {other} is "):
        LlavaSTTrainingConfig(output_dir=str(tmp_path), **{name: find_value(name)})


@pytest.mark.parametrize("optim", ["galore_adamw", "lomo", "apollo_adamw"])
def test_optimizers_without_a_rate_for_each_module_are_refused(tmp_path, optim):
    with pytest.raises(InputError, match=f"optim is '{optim}'"):
        LlavaSTTrainingConfig(output_dir=str(tmp_path), optim=optim)


@pytest.mark.parametrize(
    ("name", "value", "optim", "reader"),
    [
        ("optim_args", "momentum=0.9", "adamw_torch_fused", "sgd"),
        ("adam_beta1", 0.5, "sgd", "adamw_torch"),
        ("adam_epsilon", 1e-6, "adafactor", "adamw_torch_fused"),
    ],
)
def test_what_an_optimizer_does_not_read_is_refused(tmp_path, name, value, optim, reader):
    with pytest.raises(InputError, match=f"{name} is .*, which the optimizer {optim} does not read"):
        LlavaSTTrainingConfig(output_dir=str(tmp_path), optim=optim, **{name: value})
    LlavaSTTrainingConfig(output_dir=str(tmp_path), optim=reader, **{name: value})


def test_defaults_may_be_written_out(tmp_path):
    written = {"packing": False, "loss_type": "nll", "label_smoothing_factor": 0.0, "dataset_text_field": "text"}
    assert LlavaSTTrainingConfig(output_dir=str(tmp_path), **written).packing is False


def test_a_precision_that_the_device_lacks_is_refused(tmp_path):
    with pytest.raises(InputError, match="fp16 is True, which needs a GPU"):
        LlavaSTTrainingConfig(output_dir=str(tmp_path), fp16=True, use_cpu=True)
