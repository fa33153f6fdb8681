#!/usr/bin/env bash
# What: on CPUs without AVX-512 the speed of a bf16 product in torch hangs on which operand is stored transposed.
# Versions: torch 2.13.0, Python 3.11, any x86-64: the instructions are hidden from oneDNN (ONEDNN_MAX_CPU_ISA=AVX2), not absent.
# Expected: `a @ b` and `F.linear(a, b.T.contiguous())` are one product, so about one time; and bf16, half the bytes, costs
#   not much more than converting to fp32, multiplying there and rounding back.
# Seen: oneDNN is left out below AVX-512 and torch's own loops take over, which have a fast case for a transposed right
#   operand alone. 512 x 512 x 512, one thread, CPU time: `a @ b` about 9 times `F.linear`, 35 times the way over fp32
#   (AMD EPYC), with the same values. With AVX-512 shown, all are alike. `.bfloat16()` and autocast say nothing of it.
# Why it matters: a forward pass is F.linear and looks only slow. The backward of each linear layer towards its input is
#   `grad @ weight`, the slow kind: forward and backward of one took 116 ms in bf16, 8 ms in fp32. So are scores against an
#   index kept by columns. Whether bf16 pays is a question of what oneDNN may use, not of the dtype being supported.
# Here: cpt_ray chooses by timing both, not by the processor's name.
# Exits non-zero if the ratios (asserted with a wide margin: 3 and 6) are gone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$work/layout.py" <<'PYTHON'
import os
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
torch.manual_seed(0)
a, b = torch.randn(2, 512, 512).bfloat16()
transposed = b.T.contiguous()


def cpu(function):
    function()
    times = []
    for _ in range(5):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


plain = cpu(lambda: a @ b)
linear = cpu(lambda: F.linear(a, transposed))
over_fp32 = cpu(lambda: (a.float() @ b.float()).bfloat16())
print(f"torch {torch.__version__}, ONEDNN_MAX_CPU_ISA={os.environ['ONEDNN_MAX_CPU_ISA']}:", end=" ")
print(f"a @ b {1000 * plain:.1f} ms, F.linear {1000 * linear:.1f} ms, over fp32 {1000 * over_fp32:.1f} ms")
assert torch.allclose((a @ b).float(), F.linear(a, transposed).float(), rtol=0.02, atol=0.02)
if sys.argv[1:] == ["slow"]:
    assert plain > 3 * linear, "a @ b is no longer slower than F.linear"
    assert plain > 6 * over_fp32, "a @ b is no longer slower than the way over fp32"
PYTHON
ONEDNN_MAX_CPU_ISA=AVX2 "$work/venv/bin/python" "$work/layout.py" slow
ONEDNN_MAX_CPU_ISA=DEFAULT "$work/venv/bin/python" "$work/layout.py"
echo "as stated"
