#!/usr/bin/env bash
# What: `ray symmetric-run` ends with 0 where Ray could not be started and the command never ran.
# Versions: ray 2.60.0, Python 3.11.
# Expected: an exit code other than 0, as of a command that failed: it is what a scheduler knows of a job.
# Seen: "Failed to start Ray" on standard error, the command is not run, exit code 0.
# Why it matters: symmetric-run is made for Slurm, where a job that ends with 0 is COMPLETED: it is not requeued, those that
#   depend on it start, and `srun --kill-on-bad-exit` sees nothing bad. A name in the options that this Ray does not know is enough.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "ray[default]==2.60.0"
export PATH="$work/venv/bin:$PATH" RAY_USAGE_STATS_ENABLED=0
ray --version
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
code=0
ray symmetric-run --address "127.0.0.1:$port" --no-such-option=1 -- touch "$work/ran" > "$work/out" 2>&1 || code=$?
tail -4 "$work/out"
if grep -q "already started" "$work/out"; then
  echo "a Ray runs on this machine: stop it first"
  exit 1
fi
echo "exit code $code, the command ran: $([ -e "$work/ran" ] && echo yes || echo no)"
grep -q "Failed to start Ray" "$work/out" && [ "$code" = 0 ] && [ ! -e "$work/ran" ] || { echo "behaviour has changed"; exit 1; }
echo "as stated"
