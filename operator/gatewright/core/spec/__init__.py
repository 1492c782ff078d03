"""What a body says.

`pinned_spec` reads it, `problems` checks it, `expand` fills in `$(...)`, `outputs` are what steps
hand on, `edits` say what two bodies differ in, `targets` what a body says of its targets,
`windows` when a run may start (`recurrence` reads their rules), `stage_conditions` whether a stage
has anything to do, `freezes` which Freezes keep a Release from starting (`selectors`: which
Releases one means).
"""
