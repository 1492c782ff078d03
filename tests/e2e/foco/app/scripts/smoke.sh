#!/bin/sh
# The smoke test against $BASE_URL, as the runbook's `npm run test:smoke`. See focomx/smoke.py.
cd "$(dirname "$0")/.." && exec "${PYTHON:-python3}" -m focomx.smoke "$@"
