#!/bin/sh
# backup | migrate | verify | rollback, as the runbook calls it. What each does is told in focomx/orchestrator.py.
cd "$(dirname "$0")/.." && exec "${PYTHON:-python3}" -m focomx.orchestrator "$@"
