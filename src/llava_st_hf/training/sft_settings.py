"""What each field of TRL's `SFTConfig` does here: it acts, it cannot matter, or it is refused with what to do instead.

A field that a later TRL brings stands in none of the three, and a test names it.
"""

from dataclasses import fields
from typing import Any

from ..processing import InputError

_ACTING = """
    output_dir per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type
    lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon
    gradient_accumulation_steps average_tokens_across_devices max_grad_norm max_length seed full_determinism
    bf16 fp16 tf32 activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing
    gradient_checkpointing_kwargs activation_offloading torch_empty_cache_steps use_cpu
    logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter
    include_num_input_tokens_seen log_level log_level_replica disable_tqdm skip_memory_metrics debug
    report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id
    eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size
    save_strategy save_steps save_on_each_node save_total_limit save_only_model
    load_best_model_at_end metric_for_best_model greater_is_better
    resume_from_checkpoint ignore_data_skip restore_callback_states_from_checkpoint
    push_to_hub hub_token hub_private_repo hub_model_id hub_strategy
    dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
    dataloader_multiprocessing_context
    ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout
    fsdp fsdp_config deepspeed
"""
ACTS = frozenset(_ACTING.split())

CANNOT_MATTER = {
    "do_train": "a recipe always trains",
    "do_eval": "set by transformers itself where eval_strategy is given",
    "local_rank": "comes from the launcher",
    "prediction_loss_only": "the evaluation of a training reads nothing but losses",
}

_LOADED = "the checkpoint is loaded by dtype, attn_implementation and model_revision of the recipe"
_ROW = "each record is a row of its own, padded to the longest of its batch"
_LEARNT = "what is learnt is what the assistant says, always"
_RECORDS = "a record says itself what its text is, see `llava-st data`"
_TOKENIZER = "it is that of the checkpoint's tokenizer, change it there"
_ORDER = "the order of the records is that of the mixture, with its own seed"
_LOSS = "the loss is the model's own, of text and of coordinates"
_RATES = "each module has its own rate, see learning_rates"
_NO_PREDICTIONS = "an evaluation collects no predictions; grounding_clips answers and scores records"
_NOT_COMPILED = "the shapes of batches differ, and nothing is compiled"
# Each may have no value but its default.
REFUSED = {
    "model_init_kwargs": _LOADED,
    "trust_remote_code": "no code of a checkpoint is run",
    "router_aux_loss_coef": "the model has no experts",
    "chat_template_path": "the template is that of the checkpoint's processor, change it there",
    "dataset_text_field": _RECORDS,
    "dataset_kwargs": _RECORDS,
    "dataset_num_proc": "records are prepared while the run reads them: set dataloader_num_workers",
    "eos_token": _TOKENIZER,
    "pad_token": _TOKENIZER,
    "truncation_mode": "a record that is too long is skipped, or with `truncation` cut at its end",
    "shuffle_dataset": _ORDER,
    "packing": _ROW,
    "packing_strategy": _ROW,
    "eval_packing": _ROW,
    "padding_free": _ROW,
    "pad_to_multiple_of": _ROW,
    "completion_only_loss": _LEARNT,
    "assistant_only_loss": _LEARNT,
    "loss_type": _LOSS,
    "label_smoothing_factor": _LOSS,
    "optim_target_modules": _RATES,
    "bf16_full_eval": "an evaluation is in the precision of the training",
    "fp16_full_eval": "an evaluation is in the precision of the training",
    "torch_compile": _NOT_COMPILED,
    "torch_compile_backend": _NOT_COMPILED,
    "torch_compile_mode": _NOT_COMPILED,
    "use_liger_kernel": _LOSS,
    "liger_kernel_config": _LOSS,
    "use_cache": "a training step keeps no cache",
    "neftune_noise_alpha": "noise would reach text tokens and not the coordinates",
    "auto_find_batch_size": "the order of the records depends on the batch: set per_device_train_batch_size",
    "eval_do_concat_batches": _NO_PREDICTIONS,
    "eval_use_gather_object": _NO_PREDICTIONS,
    "eval_accumulation_steps": _NO_PREDICTIONS,
    "include_for_metrics": _NO_PREDICTIONS,
    "batch_eval_metrics": _NO_PREDICTIONS,
    "enable_jit_checkpoint": "checkpoints are written every save_steps: lower these",
    "data_seed": _ORDER,
    "accelerator_config": _ORDER,
    "parallelism_config": "models are split with fsdp or deepspeed",
    "dataloader_drop_last": "every record is trained on, the last ones too",
    "dataloader_in_order": _ORDER,
    "hub_always_push": "a push is waited for",
    "hub_revision": "a run pushes to main",
    "remove_unused_columns": "records are no columns",
    "label_names": "the labels are made of what the assistant says",
    "train_sampling_strategy": _ORDER,
    "length_column_name": _ORDER,
    "do_predict": "use `llava-st evaluate` on the checkpoint",
}
# What acts only together with another field.
NEEDS = {
    **dict.fromkeys(("hub_private_repo", "hub_model_id", "hub_strategy", "hub_token"), "push_to_hub"),
    **dict.fromkeys(("dataloader_persistent_workers", "dataloader_multiprocessing_context"), "dataloader_num_workers"),
    "dataloader_prefetch_factor": "dataloader_num_workers",
    "fsdp_config": "fsdp",
    **dict.fromkeys(("run_name", "project", "trackio_space_id", "trackio_bucket_id"), "report_to"),
    "trackio_static_space_id": "report_to",
    "load_best_model_at_end": "eval_strategy",
}
# Optimizers that take the parameters by name, or update them on their own.
_OTHER_OPTIMIZERS = ("galore", "apollo", "lomo", "adalomo")
# Optimizers that do not read a setting.
_UNREAD = {
    "optim_args": ("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adafactor"),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "adam_epsilon"), ("sgd", "adagrad", "rmsprop", "adafactor")),
}
_OFF = (None, False, 0, "", "no", "none", [], ["none"])


def check_sft_settings(config: Any) -> None:
    """
    Refuse the settings that would be taken and then ignored, before anything is loaded.

    Args:
        config (`SFTConfig`): The settings as they were given; their defaults are those of its class.

    Raises:
        `InputError`: With the field, its value, and what to do instead.
    """
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    defaults = {field.name: field.default for field in fields(config)} | {"include_for_metrics": []}
    for name, instead in REFUSED.items():
        if name in given and given[name] != defaults[name]:
            raise InputError(f"{name} is {given[name]!r:.80}, which cannot act: {instead}. Leave it out.", field=name)
    for name, other in NEEDS.items():
        if name in given and given[name] != defaults[name] and given[other] in _OFF:
            raise InputError(
                f"{name} is {given[name]!r:.80}, but {other} is {given[other]!r}: set that too, or leave it out.",
                field=name,
            )
    optimizer = str(getattr(config.optim, "value", config.optim))
    for name, optimizers in _UNREAD.items():
        if optimizer in optimizers and given[name] != defaults[name]:
            raise InputError(
                f"{name} is {given[name]!r:.80}, which the optimizer {optimizer} does not read: leave it out, or "
                "choose another optim.",
                field=name,
            )
    if optimizer.startswith(_OTHER_OPTIMIZERS):
        raise InputError(
            f"optim is {optimizer!r}, which cannot act: {_RATES}. Choose adamw_torch_fused.", field="optim"
        )
