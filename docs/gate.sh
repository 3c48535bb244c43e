#!/usr/bin/env bash
# The gate of docs/github-actions.yml: evaluate a checkpoint on the bundled subset, and check it against a baseline.
# MODEL, BATCH and BASELINE may be set; exits with 0 (as good), 1 (worse) or 2 (cannot be compared).
set -uo pipefail
evalkit run --tasks refcoco,vqav2 --model "${MODEL:-tiny}" --data tiny --batch-size "${BATCH:-16}" --name gate --fresh || exit 2
evalkit check runs/gate --baseline "${BASELINE:-baseline.json}" \
    --junit evalkit-junit.xml --summary "${GITHUB_STEP_SUMMARY:-evalkit-summary.md}"
