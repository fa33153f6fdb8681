#!/usr/bin/env bash
# What: Ray Tune's "verbose=0 = silent" is not silent: it writes a box and advice to standard output.
# Versions: ray 2.60.0 (ray[tune]), Python 3.11.
# Expected: RunConfig(verbose=0), documented as silent, leaves standard output to the program.
# Seen: a table "Configuration for experiment", "View detailed results here" and how to start TensorBoard, on standard output.
#   Under RAY_AIR_NEW_OUTPUT=0, the older reporter, verbose=0 writes nothing there.
# Why it matters: a sweep whose result is a line of JSON on standard output, for a scheduler or `jq`, has a box before it;
#   verbose=0 is the option that was to prevent it. Here: cpt_ray sets the variable where it makes the Tuner.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "ray[tune]==2.60.0"
cat > "$work/sweep.py" <<'PY'
import json, sys
import ray
from ray import tune

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
run = tune.RunConfig(name="sweep", storage_path=sys.argv[1], verbose=0)
tuner = tune.Tuner(lambda config: {"loss": config["x"]}, param_space={"x": tune.grid_search([1, 2])}, run_config=run)
results = tuner.fit()
print(json.dumps({"ray": ray.__version__, "best": results.get_best_result("loss", "min").metrics["loss"]}))
PY
export RAY_USAGE_STATS_ENABLED=0
"$work/venv/bin/python" "$work/sweep.py" "$work/new" > "$work/new.out" 2> "$work/err" || { tail -5 "$work/err"; exit 1; }
RAY_AIR_NEW_OUTPUT=0 "$work/venv/bin/python" "$work/sweep.py" "$work/old" > "$work/old.out" 2> "$work/err" || { tail -5 "$work/err"; exit 1; }
echo "standard output with verbose=0:"
sed "s|$work|WORK|g" "$work/new.out"
echo "the same with RAY_AIR_NEW_OUTPUT=0:"
cat "$work/old.out"
grep -q "Configuration for experiment" "$work/new.out" && grep -q "tensorboard --logdir" "$work/new.out" \
  && [ "$(wc -l < "$work/old.out")" = 1 ] || { echo "behaviour has changed"; exit 1; }
echo "as stated"
