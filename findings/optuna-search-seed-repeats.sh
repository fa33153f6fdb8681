#!/usr/bin/env bash
# Ray Tune's OptunaSearch, told what has been evaluated, proposes the very same points again.
#
# What: a search that is to go on after its process died is made anew with the same `seed`, and told the finished trials by
#       `points_to_evaluate` and `evaluated_rewards`, as its documentation says ("you can avoid re-running those trials").
# Versions: ray[tune] 2.60.0, optuna 5.0.0.
# Expected: points that have not been evaluated.
# Seen: the first proposals are the evaluated points, to the last bit, in the same order: the seed starts the sampler's
#       random numbers from the beginning whatever the study holds, and the first ten points of TPE are random draws. Tune
#       trains them again, and of a budget of so many trials the finished part is spent twice.
# Why it matters: a resumed sweep repeats hours of training and looks as if it went on. With another seed for each start
#       (such as the seed plus the number of evaluated points) the proposals are new, as the last lines show.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'ray[tune]==2.60.0' 'optuna==5.0.0'
cd "$work"
cat > resumed.py <<'PY'
import importlib.metadata as about

import optuna
from optuna.distributions import FloatDistribution
from ray.tune.search.optuna import OptunaSearch

optuna.logging.set_verbosity(optuna.logging.ERROR)
print("ray", about.version("ray"), "optuna", about.version("optuna"))
space = {"rate": FloatDistribution(1e-4, 1e-1, log=True), "decay": FloatDistribution(0.0, 0.3)}


def proposals(search, count):
    found = []
    for number in range(count):
        found.append(search.suggest(str(number)))
        search.on_trial_complete(str(number), {"score": found[-1]["rate"]})
    return found


first = proposals(OptunaSearch(space, metric="score", mode="max", seed=0), 4)
rewards = [point["rate"] for point in first]
again = proposals(
    OptunaSearch(space, metric="score", mode="max", seed=0, points_to_evaluate=first, evaluated_rewards=rewards), 4
)
other = proposals(
    OptunaSearch(space, metric="score", mode="max", seed=4, points_to_evaluate=first, evaluated_rewards=rewards), 4
)
print("evaluated:         ", [round(point["rate"], 6) for point in first])
print("told, same seed:   ", [round(point["rate"], 6) for point in again])
print("told, another seed:", [round(point["rate"], 6) for point in other])
repeated, fresh = sum(point in first for point in again), sum(point in first for point in other)
print(f"proposed again: {repeated} of 4 with the same seed, {fresh} of 4 with another")
raise SystemExit(0 if (repeated, fresh) == (4, 0) else "this has changed")
PY
"$work/venv/bin/python" resumed.py
