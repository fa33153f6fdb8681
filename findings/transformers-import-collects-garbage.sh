#!/usr/bin/env bash
# What: a third of the CPU time of a process that imports transformers' base class of models is Python's garbage collector.
# Versions: transformers 5.23.0, torch 2.13.0+cpu, Python 3.11; AMD EPYC, x86-64 Linux.
# Expected: an import reads, compiles and runs modules; nothing is garbage, and reference counts free what little is.
# Seen: `from transformers import PreTrainedModel` makes some 390,000 objects that stay. The collector looks over all of them six times as
#   they come, which is half of its time, and again as the process ends, which is the other half. User and system time of the
#   whole process: 2.9 s; with `gc.disable()` before the import and `gc.freeze()` before the end 2.0 s, the same modules loaded.
# Why it matters: every command line tool, test worker and actor of a cluster over transformers pays it at its start and end,
#   before it reads a weight; those who want it quicker leave out imports that are needed.
# Here: cpt_ray/memory.py `uncollected`, pipelines/cli.py; a search from nothing takes 2.5 CPU s instead of 3.4.
# Exits non-zero if the ratio (asserted: 1.2) is gone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0 scipy==1.17.1
cat > "$work/import.py" <<'PYTHON'
import gc
import sys

if sys.argv[1] == "without":
    gc.disable()
from transformers import PreTrainedModel  # noqa: E402, F401

if sys.argv[1] == "without":
    gc.freeze()
print(len(sys.modules), gc.get_stats()[2]["collections"])
PYTHON
cat > "$work/times.py" <<'PYTHON'
import resource
import subprocess
import sys


def spent(how):
    def cpu():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = cpu()
    said = subprocess.run([sys.executable, sys.argv[1], how], check=True, capture_output=True, text=True).stdout.split()
    return cpu() - before, said


spent("with")  # compiles the modules
best = {how: min(spent(how) for _ in range(3)) for how in ("with", "without")}
for how, (seconds, (modules, collections)) in best.items():
    print(f"{how:8} collection: {seconds:.2f} CPU s, {modules} modules, {collections} times all was looked over before the end")
ratio = best["with"][0] / best["without"][0]
print(f"{ratio:.2f} times the CPU time with it")
assert best["with"][1][0] == best["without"][1][0], "not the same modules"
assert ratio > 1.2, "the collector takes less than a sixth now"
PYTHON
"$work/venv/bin/python" -c "import torch, transformers, sys; print('torch', torch.__version__, 'transformers', transformers.__version__, 'Python', sys.version.split()[0])"
"$work/venv/bin/python" "$work/times.py" "$work/import.py"
