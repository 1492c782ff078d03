"""A run, from its beginning to its ending: which phase, which stage, what is to be done and what to
be undone.

`decide` is the way in. `context` is what every function here is given. `states` and `clocks` say
which changes are allowed and what has a time; `operations` and `needs` say what a run does and what
it has to know; `pinning` keeps what it began with; `rollback_plan` says in which order things are
undone, `rollback` does it; `observed` compares what is live with what is wanted; `resting` and
`rescue` are for what has ended, and for what cannot be decided.
"""
