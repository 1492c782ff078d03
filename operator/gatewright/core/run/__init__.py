"""A run, from its beginning to its ending: which phase, which stage, what is done and what undone.

`decide` is the way in; `context` is what every function here is given. What happens, in order:

    start, pinning                     what a run keeps as it begins
    phases, interruptions              preflight, stages, guarding; what ends or stops them
    stages, running_step, stage_end    a stage with its gates; one step; how a stage fails
    promotion                          what is live becomes last good
    rollback, rollback_plan            what is undone, and in which order
    undo_lines                         one line of that
    verification, rollback_end         what has to hold then, and what is said

What these stand on:

    states, clocks                     which changes are allowed; what has a time
    operations, check_operations       what steps, lines and checks stand for
    driving                            how far operations are together
    needs                              what has to be known before a decision
    holdings, observed                 what is wanted, and what is live beside it
    situations, resting                what is there before and after a run
    rescue                             what is said where nothing can be decided
"""
