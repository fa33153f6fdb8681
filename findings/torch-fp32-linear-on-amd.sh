#!/usr/bin/env bash
# What: on processors of AMD with AVX-512, torch's F.linear in float32 runs at half the speed of the kernels in its own wheel.
# Versions: torch 2.13.0+cpu (MKL 2024.2, oneDNN 3.12), Python 3.11; AMD EPYC of family 26 (Zen 5), x86-64 Linux.
# Expected: torch says "CPU capability usage: AVX512", so float32 products use it.
# Seen: they go to MKL, which has AVX-512 kernels for processors of Intel alone. 1,024 x 256 by 704, one thread, CPU time: F.linear
#   about 110 GFLOP/s, the same product by oneDNN's kernels (mkldnn::_linear_pointwise, which torch.compile uses) about 250,
#   with the weight as it is, not packed; both within float32's rounding of the product in float64. Nothing public switches
#   it: torch.backends.mkldnn takes float32 only where it may round to bf16 or tf32.
# Why it matters: encoders of some million parameters are embedded and served in fp32 on CPUs, and on AMD every library over
#   torch (transformers, sentence-transformers, servers around them) loses half. Whoever compares fp32 with bf16 there
#   compares with the wrong fp32: much of what bf16 seems to gain is AVX-512.
# Here: cpt_ray/compat/torch.py `product`; embedding costs 0.55 of the CPU time.
# Exits non-zero if the ratio (asserted: 1.5) is gone; on other processors it says so and has nothing to show.
set -euo pipefail
if ! grep -q AuthenticAMD /proc/cpuinfo || ! grep -q avx512f /proc/cpuinfo; then
  echo "no AMD with AVX-512: nothing to see here"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$work/product.py" <<'PYTHON'
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
torch.manual_seed(0)
hidden, weight = torch.randn(1024, 256), torch.randn(704, 256)
exact = hidden.double() @ weight.double().T


def by_onednn(hidden, weight):
    return torch.ops.mkldnn._linear_pointwise(hidden, weight, None, "none", [], "")


def gflops(function):
    best = float("inf")
    for _ in range(20):
        start = time.process_time()
        for _ in range(10):
            function(hidden, weight)
        best = min(best, time.process_time() - start)
    return 10 * 2 * hidden.shape[0] * weight.numel() / best / 1e9


with torch.inference_mode():
    rates = {"F.linear": gflops(F.linear), "oneDNN": gflops(by_onednn)}
    errors = [float((function(hidden, weight).double() - exact).abs().max()) for function in (F.linear, by_onednn)]
print("torch", torch.__version__, "capability", torch.backends.cpu.get_cpu_capability())
for (name, rate), error in zip(rates.items(), errors):
    print(f"{name}: {rate:.0f} GFLOP/s of CPU time, at most {error:.1e} from the exact product")
ratio = rates["oneDNN"] / rates["F.linear"]
print(f"ratio {ratio:.2f}")
sys.exit(0 if ratio > 1.5 and max(errors) < 1e-3 else 1)
PYTHON
"$work/venv/bin/python" "$work/product.py" || { echo "behaviour has changed"; exit 1; }
echo "as stated"
