#!/usr/bin/env bash
# Ray Train V2 keeps Ctrl-C for itself after fit() has returned.
#
# Versions: ray 2.60.0 (ray[train]), torch 2.13.0, Python 3.11.
# Expected: `trainer.fit()` puts its SIGINT handler in while it runs and the caller's back afterwards, as Ray Tune does; a
#   later Ctrl-C raises KeyboardInterrupt in the driver.
# Seen: the handler stays. A SIGINT in the driver after fit() raises no KeyboardInterrupt: the handler asks the controller of
#   the finished run to abort and returns, and the program goes on to its end, with exit code 0.
# Why it matters: a pipeline that trains and then evaluates, indexes or sweeps cannot be interrupted by Ctrl-C or `except
#   KeyboardInterrupt` any more.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "torch==2.13.0" "ray[train]==2.60.0"
cat > "$work/driver.py" <<'PY'
import os, signal, sys
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
before = signal.getsignal(signal.SIGINT)
TorchTrainer(
    lambda: None,
    scaling_config=ScalingConfig(num_workers=1),
    run_config=RunConfig(name="one", storage_path=os.path.join(sys.argv[1], "runs")),
).fit()
after = signal.getsignal(signal.SIGINT)
print("ray", ray.__version__)
print("handler before fit():", getattr(before, "__qualname__", before))
print("handler after fit(): ", getattr(after, "__qualname__", after), flush=True)
try:
    os.kill(os.getpid(), signal.SIGINT)
    print("after SIGINT: no KeyboardInterrupt, the program goes on", flush=True)
except KeyboardInterrupt:
    print("after SIGINT: KeyboardInterrupt", flush=True)
except SystemExit as end:
    print(f"after SIGINT: SystemExit({end.code}), no KeyboardInterrupt", flush=True)
    raise
PY
set +e
RAY_USAGE_STATS_ENABLED=0 "$work/venv/bin/python" "$work/driver.py" "$work" > "$work/out" 2> "$work/err"
code=$?
set -e
cat "$work/out"
echo "exit code: $code"
grep -q "handler after fit():  .*sigint_handler" "$work/out" && grep -q "no KeyboardInterrupt" "$work/out" && [ "$code" = 0 ] \
  || { tail -5 "$work/err"; echo "behaviour has changed"; exit 1; }
echo "as described: Ray Train's handler is still there, and the driver was not interrupted"
