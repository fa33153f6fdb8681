#!/usr/bin/env bash
# What: a trial that Ray Tune has stopped goes on training, where it trains by Ray Train: its workers work on and keep their CPUs.
# Versions: ray 2.60.0 (ray[train,tune]), Python 3.11.
# Expected: with the pattern of the documentation (a function of Tune that calls `trainer.fit()`, with TuneReportCallback),
#   a trial ended by `stop=` or by a scheduler such as ASHA gives its resources back, as one that trains by itself does.
# Seen: `tuner.fit()` has returned and the trial is TERMINATED; ten seconds later the worker's loop still counts, and the
#   CPU that Ray Train reserved for it is not available.
# Why it matters: early stopping is to save what bad trials cost; here it saves nothing, and on a cluster that has just room
#   for the running trials the next ones wait for ever. Here: a stopped trial ends its own training first (cpt_ray/sweep).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "ray[train,tune]==2.60.0" pandas
cat > "$work/sweep.py" <<'PY'
import sys, time
from pathlib import Path
import ray
from ray import train, tune
from ray.train.data_parallel_trainer import DataParallelTrainer
from ray.tune.integration.ray_train import TuneReportCallback

root = Path(sys.argv[1])


def work(config):
    for step in range(600):
        with open(config["beats"], "a") as file:
            file.write("beat\n")
        train.report({"loss": 1.0 / (1 + step)})
        time.sleep(0.5)


def trial(config):
    DataParallelTrainer(
        work,
        train_loop_config={"beats": str(root / "beats")},
        scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=train.RunConfig(name="train", storage_path=str(root / "train"), callbacks=[TuneReportCallback()]),
    ).fit()


ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
tuner = tune.Tuner(
    tune.with_resources(trial, {"CPU": 0}),
    param_space={"x": tune.grid_search([1])},
    run_config=tune.RunConfig(name="tune", storage_path=str(root / "tune"), stop={"training_iteration": 2}, verbose=0),
)
found = tuner.fit()
beats = len((root / "beats").read_text().splitlines())
time.sleep(10)
later = len((root / "beats").read_text().splitlines())
print("ray", ray.__version__, "| trials", len(found), "errors", found.num_errors)
print("beats when Tune was done:", beats, "| ten seconds later:", later)
print("CPUs available of 2:", int(ray.available_resources().get("CPU", 0)))
PY
RAY_USAGE_STATS_ENABLED=0 "$work/venv/bin/python" "$work/sweep.py" "$work" > "$work/out" 2> "$work/err" || { tail -5 "$work/err"; exit 1; }
grep -v "^[+|╭│╰]" "$work/out" | grep "ray \|beats\|CPUs" | tee "$work/said"
grep -q "errors 0" "$work/said" || { echo "the trial failed"; exit 1; }
read -r before after < <(sed -n 's/beats when Tune was done: \([0-9]*\) | ten seconds later: \([0-9]*\)/\1 \2/p' "$work/said")
[ "$after" -gt "$((before + 5))" ] && grep -q "available of 2: 1" "$work/said" || { echo "behaviour has changed"; exit 1; }
echo "as stated"
