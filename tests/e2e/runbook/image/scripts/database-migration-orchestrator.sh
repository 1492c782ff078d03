#!/bin/sh
# backup | migrate | verify | rollback ID
exec python3 -m tools.database "$@"
