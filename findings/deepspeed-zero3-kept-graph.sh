#!/usr/bin/env bash
# What: under DeepSpeed's ZeRO-3 the gradient of a second backward pass replaces that of the first, where both forward passes
#   ran before: accumulated gradients are silently those of the last micro-batch. ZeRO-2 adds them up.
# Versions: deepspeed 0.19.8, torch 2.13.0 (CPU, gloo, one process), Python 3.11.
# Expected: loss of two inputs, [1, 0] and [0, 1], through one linear layer; its gradient is [1, 1] in whatever order forward and
#   backward passes come, as in PyTorch, with the accumulation boundary set at the last backward pass.
# Seen: forward, backward, forward, backward gives [1, 1]. Both forward passes first gives [0, 1] under ZeRO-3, and [1, 1] under
#   ZeRO-2. No warning. ZeRO-3 counts what it has reduced in the forward pass; a backward pass without one before it starts anew.
# Why it matters: keeping the graphs of some micro-batches is what gradient caching for contrastive batches (GradCache), multi-task
#   losses and pipelines of one's own do. Training runs on, with a part of the batch, and the loss falls.
# Here: cpt_ray clears DeepSpeed's flag before each backward pass (compat/deepspeed.py, forget_backward), and the gradient
#   matrix has a cell for it.
# Exits non-zero if one of the four gradients is another.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 setuptools==80.9.0
"$work/venv/bin/pip" install --quiet --disable-pip-version-check deepspeed==0.19.8
cat > "$work/replaced.py" <<'PYTHON'
import logging
import os
import sys
import warnings

os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
warnings.simplefilter("ignore")
import torch
import torch.distributed as dist

import deepspeed
from deepspeed.utils import safe_get_full_grad

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
deepspeed.ops.__compatible_ops__ = {}  # nothing is to be compiled here
deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False, dist_init_required=False)
X = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]


def gradient(stage, forward_first):
    module = torch.nn.Linear(2, 1, bias=False)
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=torch.optim.AdamW(module.parameters()),
        config={
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "steps_per_print": 1 << 30,
            "zero_optimization": {"stage": stage, "overlap_comm": False, "contiguous_gradients": True},
        },
        dist_init_required=False,
    )
    losses = [engine(x).sum() for x in X] if forward_first else [None, None]
    for number, (x, loss) in enumerate(zip(X, losses, strict=True)):
        engine.set_gradient_accumulation_boundary(number == 1)
        engine.backward(engine(x).sum() if loss is None else loss, scale_wrt_gas=False)
    (weight,) = engine.module.parameters()
    return safe_get_full_grad(weight).flatten().tolist()


print(f"deepspeed {deepspeed.__version__}, torch {torch.__version__}")
seen = {}
for stage in (2, 3):
    for forward_first in (False, True):
        seen[stage, forward_first] = gradient(stage, forward_first)
        order = "both forward passes first" if forward_first else "forward, backward, forward, backward"
        print(f"ZeRO {stage}, {order}: {seen[stage, forward_first]}", flush=True)
dist.destroy_process_group()
whole, last = [1.0, 1.0], [0.0, 1.0]
sys.exit(seen != {(2, False): whole, (2, True): whole, (3, False): whole, (3, True): last})
PYTHON
"$work/venv/bin/python" "$work/replaced.py"
