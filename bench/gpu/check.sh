#!/bin/bash
# Run in the repository root: bash .gpu/check.sh. Writes to $OUT.
set -u
export OUT=${OUT:-/tmp/gpu-out} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
mkdir -p "$OUT"
set -o pipefail
timeout -k 10 "${GPUCHECK_HARD:-440}" python3 .gpu/check.py 2>&1 | tee "$OUT/check.log"
