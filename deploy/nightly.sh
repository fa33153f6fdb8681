#!/usr/bin/env bash
# nightly.sh ARCHIVES [NIGHT]: documents of the archives of a night, compared with those of all nights before; what is new
# is kept, and the index for the next night is written beside it. The same night again goes on where it stopped.
set -euo pipefail

night="${2:-$(date -u +%F)}"
root="${CPT_RAY_OUTPUTS:?set it to a folder that all nodes reach}/nightly"
mkdir -p "$root"
before=$(find "$root" -mindepth 3 -maxdepth 3 -path '*/index/manifest.json' \
  | awk -F/ -v night="$night" '$(NF-2) < night' | sort | tail -n 1)
cpt-ray text-pairs cluster=job archive="$1" output="nightly/$night"
cpt-ray dedup cluster=job source="$root/$night/documents" output="nightly/$night" \
  ${before:+"index=$(dirname "$before")"}
