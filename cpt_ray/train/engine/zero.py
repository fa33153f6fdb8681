"""DeepSpeed ZeRO 0 to 3 behind the engine's interface.

Several backward passes before one step are where DeepSpeed silently goes wrong, so the configuration is generated here,
with every trap set explicitly, and never read from a file:

    gradient_clipping         defaults to 1.0; set to what the options say (0 is none)
    grad_accum_dtype          defaults to bf16 for bf16 weights; set to fp32
    accumulation steps        1, and no loss is scaled by them: the surrogate loss is already exact
    ZeRO 1, 2, 3              `coalesce_grad_reduction` around all backward passes of a step: one reduction; or, to keep
                              no whole gradient, the accumulation boundary set by hand at the last of them
    ZeRO 0                    `no_sync` around them, then one all-reduce
    Adam                      torch.optim.AdamW is passed in, so DeepSpeed compiles no optimiser of its own
    misspelt keys             are ignored by DeepSpeed without an error; refused here, by `check_engine`
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from torch import Tensor, nn

from cpt_ray.compat.deepspeed import (
    compile_nothing,
    files_of,
    flat_shards,
    forget_backward,
    inner_state,
    link_moments,
    place_of,
    refused_value,
    saving_by,
)
from cpt_ray.compat.torch import move_buffers
from cpt_ray.errors import UserError
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine.optimiser import adam_state, parameter_groups, whole_of, whole_state
from cpt_ray.train.engine.protocol import Put
from cpt_ray.train.options import EngineOptions
from cpt_ray.train.zero_keys import check_zero_keys

TAG = "engine"
MOMENTS = ("exp_avg", "exp_avg_sq")


def deepspeed_config(options: EngineOptions, device: str) -> dict[str, Any]:
    """DeepSpeed's whole configuration."""
    check_zero_keys(options.deepspeed, "deepspeed")
    zero: dict[str, Any] = {
        "stage": options.zero_stage,
        "overlap_comm": False,
        "contiguous_gradients": options.zero_stage == 3 or device != "cpu",
        "reduce_scatter": device != "cpu",
        **options.deepspeed,
    }
    if options.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": device != "cpu"}
    _check_values(zero)
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": options.clip,
        "bf16": {"enabled": options.precision == "bf16_weights"},
        "fp16": {"enabled": False},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "prescale_gradients": False,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": False,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 60,
        "wall_clock_breakdown": False,
    }


class DeepSpeedEngine:
    """Needs an initialised default process group with all workers in it."""

    def __init__(self, module: nn.Module, options: EngineOptions, workers: Workers) -> None:
        self.averages = workers.count
        self._workers = workers
        self._stage = options.zero_stage
        self._by_chunk = options.reduce == "chunk"
        _prepare(workers)
        config = deepspeed_config(options, workers.device.type)
        groups = parameter_groups(module, options)
        if options.precision == "bf16_weights":  # DeepSpeed would, but on the device, which may not hold them in fp32
            for parameter in module.parameters():
                parameter.data = parameter.data.bfloat16()
        self.module = _cut(module, config, workers.device) if self._stage == 3 else module.to(workers.device)
        if options.compile:
            self.module.compile()
        optimiser = torch.optim.AdamW(
            groups,
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
        )
        self._engine, *_ = deepspeed.initialize(
            model=self.module,
            optimizer=optimiser,
            config=config,
            dist_init_required=False,
        )

    def embed(self, *inputs: Tensor) -> Tensor:
        return self._engine(*inputs)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        if self._by_chunk:
            yield
            return
        if self._stage > 0:
            with self._engine.coalesce_grad_reduction():
                yield
            return
        with self._engine.no_sync():
            yield
        self._engine.set_gradient_accumulation_boundary(True)
        self._engine.allreduce_gradients()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        if self._by_chunk:
            self._engine.set_gradient_accumulation_boundary(last)
            forget_backward(self._engine.optimizer)
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self, rate: float) -> float:
        norm = self._norm() if self._stage == 0 else None  # ZeRO computes it while it steps
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self._engine.step()
        return float(self._engine.get_global_grad_norm() if norm is None else norm)

    def save(self, folder: str, put: Put) -> None:
        with saving_by(self._engine, put):
            self._engine.save_checkpoint(folder, tag=TAG, save_latest=False)

    def load(self, folder: str) -> None:
        path, _ = self._engine.load_checkpoint(folder, tag=TAG)
        if path is None:
            raise UserError("DeepSpeed cannot read this checkpoint", where=folder, fix="remove it and start again")

    def whole(self) -> dict[str, dict[str, Tensor]]:
        found: dict[str, dict[str, Tensor]] = {}
        if self._stage in (1, 2):
            link_moments(self._engine.optimizer)
        for name, parameter in self._engine.module.named_parameters():
            if self._stage == 0:
                whole = whole_of(parameter, self._engine.optimizer.state[parameter])
            else:
                parts = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
                parts["weight"] = safe_get_full_fp32_param(parameter)
                whole = {key: value.float().cpu().clone() for key, value in parts.items()}
            if self._workers.rank == 0:
                found[name] = whole
        return found

    def take_over(self, moments: dict[str, dict[str, Tensor]], steps: int) -> None:
        optimiser = self._engine.optimizer
        parameters = dict(self._engine.module.named_parameters())
        if self._stage == 0:
            for name, parameter in parameters.items():
                optimiser.state[parameter] = adam_state(moments[name], steps, parameter)
            return
        state = inner_state(optimiser)
        for flat in flat_shards(optimiser, self._stage):
            zeros = {key: torch.zeros_like(flat, requires_grad=False) for key in MOMENTS}
            state[flat] = {"step": torch.tensor(float(steps)), **zeros}
        for name, parameter in parameters.items():
            place = place_of(parameter, optimiser, self._stage, self._workers.rank)
            if place is None:
                continue
            for key in ("weight", *MOMENTS):
                own = moments[name][key].flatten()[place.first : place.first + place.size]
                # DeepSpeed has made the fp32 weights from the module's, which may have been rounded to bf16.
                target = place.flat.detach() if key == "weight" else state[place.flat][key]
                target.narrow(0, place.start, len(own)).copy_(own)

    def export(self) -> dict[str, Tensor]:
        return whole_state(
            self._engine.module,
            safe_get_full_fp32_param if self._stage > 0 else lambda parameter: parameter,
            kept=self._workers.rank == 0,
        )

    def shards(self) -> list[str]:
        return files_of(TAG, self._workers.count, self._stage, bf16=self._engine.bfloat16_enabled())

    def _norm(self) -> float:
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients))


def _check_values(zero: dict[str, Any]) -> None:
    """UserError for what DeepSpeed does not take as the value of a key."""
    if (refused := refused_value(zero)) is not None:
        key, what = refused
        raise UserError(what, where=f"deepspeed.{key}", fix="give a value that DeepSpeed's zero_optimization takes")


def _cut(module: nn.Module, config: dict[str, Any], device: torch.device) -> nn.Module:
    """Each weight goes to the device by itself and is cut there: it need not hold them all at once."""
    deepspeed.zero.Init(module=module, config_dict_or_path=config)
    move_buffers(module, device)
    return module


def _prepare(workers: Workers) -> None:
    """Quiet DeepSpeed, and make it at home in the process group."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if workers.device.type == "cpu":
        compile_nothing()
    os.environ.setdefault("LOCAL_RANK", "0")
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(
            dist_backend=torch.distributed.get_backend(),
            auto_mpi_discovery=False,
            verbose=False,
            dist_init_required=False,
        )
