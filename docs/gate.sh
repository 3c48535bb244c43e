#!/usr/bin/env bash
# The gate of docs/github-actions.yml: evaluate a checkpoint on the bundled subset and check it against a baseline.
# Environment: MODEL, BATCH, BASELINE. Exit code: 0 (pass), 1 (worse) or 2 (not comparable).
set -uo pipefail
evalkit run --tasks refcoco,vqav2 --model "${MODEL:-tiny}" --data tiny --batch-size "${BATCH:-16}" --name gate --fresh || exit 2
evalkit check runs/gate --baseline "${BASELINE:-baseline.json}" \
    --junit evalkit-junit.xml --summary "${GITHUB_STEP_SUMMARY:-evalkit-summary.md}"
