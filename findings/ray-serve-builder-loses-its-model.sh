#!/usr/bin/env bash
# What: a Ray Serve application builder whose parameter is a pydantic model gets a plain dict where its module postpones annotations.
# Versions: ray 2.60.0 (ray[serve]), pydantic 2.14.3, Python 3.11.
# Expected: "Typing arguments with Pydantic": the arguments of a config or of `serve run` are made a model of the annotated
#   class, and what does not fit is refused.
# Seen: under `from __future__ import annotations` the annotation is a string. Ray looks at it without resolving it, and calls
#   the builder with the dict, unchecked and without a word. The same builder without that line gets the model.
# Why it matters: many code bases have that line in every module. Such a builder fails by AttributeError, and only under
#   `serve deploy`, `serve run` or a RayService: called with its model, as by serve.run in a test, it works. Here:
#   cpt_ray's builder makes the model itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "ray[serve]==2.60.0" "pydantic==2.14.3"
cat > "$work/plain.py" <<'PY'
from pydantic import BaseModel


class Args(BaseModel):
    size: int


def build(args: Args):
    print("the builder has", repr(args))
    raise SystemExit(0)  # what it has is all that is asked; nothing is started
PY
{ echo "from __future__ import annotations"; cat "$work/plain.py"; } > "$work/postponed.py"
said() { "$work/venv/bin/serve" run --app-dir "$work" "$1:build" "size=$2" 2>&1 | grep -oE "the builder has .*|ValidationError: .*" | tail -1 || true; }
"$work/venv/bin/python" -c 'import ray, pydantic; print("ray", ray.__version__, "pydantic", pydantic.__version__)'
for size in 3 three; do
  for module in plain postponed; do
    declare "${module}_$size=$(said "$module" "$size")"
    name="${module}_$size"
    echo "size=$size, $module annotations: ${!name}"
  done
done
# shellcheck disable=SC2154
[ "$plain_3" = "the builder has Args(size=3)" ] && [ "$postponed_3" = "the builder has {'size': '3'}" ] \
  && [[ "$plain_three" = *"validation error"* ]] && [ "$postponed_three" = "the builder has {'size': 'three'}" ] \
  || { echo "behaviour has changed"; exit 1; }
echo "as stated"
