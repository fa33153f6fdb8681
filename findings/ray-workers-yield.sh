#!/usr/bin/env bash
# What: Ray's workers are 15 nicer than the program that started Ray, so beside one ordinary busy process a worker gets almost
#   nothing of the core that they share, and the kernel gives that core up: all workers share the others.
# Versions: ray 2.60.0, Python 3.11, Linux.
# Expected: a task has about half of a core on which one other process of the same user is busy.
# Seen: os.nice(0) is 15 in a task and 0 in the driver; of a core that is shared with one busy process the task got 1 % (Linux'
#   scheduler weighs them 36 to 1,024). With RAY_worker_niceness=0 in the environment of ray.init it gets what the busy one
#   gets. The shares are printed and not tested: they depend on what else runs.
# Why it matters: two workers that train in step on two cores take more than twice as long beside one busy process, and nothing
#   in Ray's own view says why: both have their CPU. Here: cpt_ray sets the variable for a Ray that it starts (cpt_ray/cluster.py).
# Exits non-zero if a task is as nice as the driver, or is not with the variable.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "ray==2.60.0"
cat > "$work/share.py" <<'PY'
import os
import subprocess
import sys
import time

import ray

core = min(os.sched_getaffinity(0))
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")


@ray.remote(num_cpus=1)
def work(core):
    os.sched_setaffinity(0, {core})
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() < began + 4:
        pass
    return os.nice(0), (time.process_time() - used) / (time.monotonic() - began)


busy = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"])
try:
    nice, share = ray.get(work.remote(core))
finally:
    busy.kill()
print(f"ray {ray.__version__}: the driver's niceness is {os.nice(0)}, the task's {nice}; of a shared core it got {share:.0%}")
sys.exit(nice != min(19, os.nice(0) + int(sys.argv[1])))  # 19 is the nicest
PY
export RAY_USAGE_STATS_ENABLED=0
"$work/venv/bin/python" "$work/share.py" 15 || { echo "behaviour has changed"; exit 1; }
RAY_worker_niceness=0 "$work/venv/bin/python" "$work/share.py" 0 || { echo "behaviour has changed"; exit 1; }
echo "as stated"
