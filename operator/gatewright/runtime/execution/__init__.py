"""What a run does and looks at: `handlers` hands an operation to whoever does it.

`jobs` (with `job_*`), `configs` (with `contents`, `config_watch`) and the targets of `providers`
are in the cluster; `externals` are outside, in tasks beside the passes. `live_states` and
`standings` say what is live, and how it differs.
"""
