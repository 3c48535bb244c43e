#!/usr/bin/env bash
# The gate of docs/github-actions.yml: evaluate a checkpoint on the bundled subset and check it against a baseline.
# Environment: MODEL, DATA, BATCH, BASELINE; SUBSET, a file of 'evalkit subset', runs its samples only.
# Exit code: 0 (pass), 1 (worse) or 2 (not comparable).
set -uo pipefail
what=(--tasks refcoco,vqav2)
[ -z "${SUBSET:-}" ] || what=(--subset "$SUBSET")
evalkit run "${what[@]}" --model "${MODEL:-tiny}" --data "${DATA:-tiny}" --batch-size "${BATCH:-16}" --name gate --fresh || exit 2
evalkit check runs/gate --baseline "${BASELINE:-baseline.json}" \
    --junit evalkit-junit.xml --summary "${GITHUB_STEP_SUMMARY:-evalkit-summary.md}"
