"""What is said of a Release: `conditions` in its status, `notifications` to people.

`conditions` writes what a `summary` says: `run_summary` of a run under way, with `holding_summary`
while it stands still and `guarding_summary` after its last stage; `rest_summary` without a run.
`size` keeps a status small.
"""
