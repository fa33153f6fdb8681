#!/usr/bin/env bash
# What: detect-secrets' scan_line calls every word of a line without quotes a high-entropy secret, whatever its entropy,
#   and from then on scan_file of the same process works with other settings.
# Versions: detect-secrets 1.5.0, Python 3.11.
# Expected: scan_line(line) gives what scan_file gives of a file with that line; the limits (4.5 bits for base64) hold.
# Seen: of "Returns the active plugin." scan_line yields Returns, the, active, plugin as 'Base64 High Entropy String',
#   scan_file nothing: where no quoted string is found the line is searched once more without quotes and without the limit,
#   which was made for the command's --string. scan_line also leaves a filter (is_invalid_file) switched off behind it.
# Why it matters: who masks secrets in a corpus holds texts, not files, and scan_line is the only function that takes one:
#   every comment, docstring and line of prose becomes a row of masks.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check detect-secrets==1.5.0
cat > "$work/line.py" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from detect_secrets.core.scan import scan_file, scan_line
from detect_secrets.settings import default_settings, get_settings

LINE = "Returns the active plugin."
FILTER = "detect_secrets.filters.common.is_invalid_file"
file = Path(sys.argv[1]) / "prose.py"
file.write_text(f"# {LINE}\n")
with default_settings():
    before = FILTER in get_settings().filters
    of_file = sorted({one.secret_value for one in scan_file(str(file))})
    of_line = sorted({one.secret_value for one in scan_line(LINE) if one.type == "Base64 High Entropy String"})
    after = FILTER in get_settings().filters
print("detect-secrets", version("detect-secrets"))
print("scan_file:", of_file)
print("scan_line:", of_line)
print("is_invalid_file is a filter before and after scan_line:", before, after)
sys.exit((of_file, of_line, before, after) != ([], ["Returns", "active", "plugin", "the"], True, False))
PYTHON
"$work/venv/bin/python" "$work/line.py" "$work"
