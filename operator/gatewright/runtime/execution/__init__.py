"""What a run does and looks at: `handlers` hands an operation to whoever does it.

`jobs` (with `job_*`: `job_state` reads one, `job_stops` stops one), `configs` (with `contents`,
`config_watch`) and the targets of `providers` are in the cluster; `externals` are outside, in tasks
beside the passes (`external_looks`: one look; `external_claims`: what a run owns there).
`live_states` and `standings` say what is live, and how it differs; `resting_configs` what is
captured with targets, while no run is under way.
"""
