"""A run, from its beginning to its ending: which phase, which stage, what is done and what undone.

`decide` is the way in; `context` is what every function here is given. What happens, in order:

    situations, rest_checks            what a Release is in, and how that is told apart at rest
    closures                           what keeps a run from starting, and until when
    adoption                           what is live already is taken over, without a run
    start, pinning                     what a run keeps as it begins
    phases, interruptions              preflight, stages, guarding; what ends or stops them
    superseding, holds                 what a new version does; why clocks stand still
    stages, running_step               a stage with its gates; one step
    stage_end, step_end                how they fail or end
    skipping, stage_retry              what people make of one that has failed
    promotion                          what is live becomes last good
    rollback, rollback_plan            what is undone, and in which order
    undo_lines, rollback_budgets       one line of that; how long it may take
    late_restores, rollback_repeat     what is looked at, or undone, once more
    verification, rollback_end         what has to hold then, and what is said (`last_seen`: where
                                       nobody vouches for it)
    run_end                            the outcome, and what is live

What these stand on:

    states, clocks                     which changes are allowed; what has a time
    position                           which stage and which step the walk is at
    journal                            what the run has begun to change
    operations, check_operations       what steps, lines and checks stand for
    driving, check_evaluation          how far operations are together; how checks are
    needs                              what has to be known before a decision
    holdings, observed                 what is wanted, and what is live beside it
    resting                            what is there before and after a run
    unresolved, rescue                 what a wrong reference ends; what is said where nothing can
                                       be decided
"""
