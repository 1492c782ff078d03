"""What a body says: `pinned_spec` reads and checks it, `expand` fills in `$(...)`, `outputs` are
what steps hand on, `edits` say what two bodies differ in, `changes` what a step changes."""
