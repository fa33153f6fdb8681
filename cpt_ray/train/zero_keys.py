"""Keys of DeepSpeed's zero_optimization section that `train.deepspeed` may hold, known without importing DeepSpeed."""

from __future__ import annotations

from collections.abc import Iterable

from cpt_ray.errors import UserError

KEYS = frozenset(
    {
        *("allgather_bucket_size", "allgather_partitions", "allgather_sequential", "compute_grad_norm"),
        *("contiguous_gradients", "cpu_offload", "cpu_offload_param", "cpu_offload_use_pin_memory"),
        *("elastic_checkpoint", "enable_sanity_checks", "gather_16bit_weights_on_model_save"),
        *("ignore_unused_parameters", "leaf_module", "legacy_stage1", "load_from_fp32_weights"),
        *("log_trace_cache_warnings", "max_live_parameters", "max_reuse_distance", "memory_efficient_linear"),
        *("model_persistence_threshold", "module_granularity_threshold", "offload_optimizer", "offload_param"),
        *("overlap_comm", "override_module_apply", "param_persistence_threshold", "parameter_alignment"),
        *("pipeline_loading_checkpoint", "prefetch_bucket_size", "reduce_bucket_size", "reduce_scatter"),
        *("round_robin_gradients", "save_muon_momentum_buffer_in_memory", "stage", "stage3_allgather_sequential"),
        *("stage3_gather_16bit_weights_on_model_save", "stage3_gather_fp16_weights_on_model_save"),
        *("stage3_max_live_parameters", "stage3_max_reuse_distance", "stage3_model_persistence_threshold"),
        *("stage3_module_granularity_threshold", "stage3_param_persistence_threshold"),
        *("stage3_prefetch_bucket_size", "stage3_use_all_reduce_for_fetch_params", "sub_group_size"),
        *("use_all_reduce_for_fetch_params", "use_multi_rank_bucket_allreduce", "zenflow"),
        *("zero_hpz_partition_size", "zero_quantized_gradients", "zero_quantized_nontrainable_weights"),
        *("zero_quantized_weights",),
    }
)
"""Of DeepSpeed 0.19.8 (`DeepSpeedZeroConfig`); a test fails when they change."""
OURS = {"stage": "zero_stage", "offload_optimizer": "offload", "cpu_offload": "offload"}
"""Keys that options of their own set, which checkpoints and checks go by."""


def check_zero_keys(keys: Iterable[str], where: str) -> None:
    """UserError for a key of `options.deepspeed` that DeepSpeed would ignore, or that an option of ours sets."""
    for key in sorted(keys):
        if key in OURS:
            raise UserError(
                f"{OURS[key]} sets DeepSpeed's {key!r}",
                where=f"{where}.{key}",
                fix=f"leave it out, and set {OURS[key]}",
            )
        if key not in KEYS:
            raise UserError(
                f"DeepSpeed's zero_optimization has no key {key!r} and would ignore it",
                where=f"{where}.{key}",
                fix="correct the key; only keys of zero_optimization can be set here",
            )
