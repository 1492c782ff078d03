"""Decisions: pure functions of their arguments. No clock, no I/O, no asyncio, no logging.

To understand a run, read in this order (`python -m tests.house` counts the lines of this list):

1. `run/states.py`          the phases of a run, of its stages and steps: a diagram, and tables
2. `model/view.py`          what goes in: a Release as it stands
3. `model/observation.py`   what else goes in: what was found out
4. `model/decision.py`      what comes out: the new status; `model/operation.py`: what is to be done
5. `run/context.py`         one decision while it is being made: every action is given it
6. `run/decide.py`          one decision: which situation, which action, until the phase stays
7. `run/situations.py`      what a Release is in, before a run, during one and at rest
8. `run/phases.py`          the way forward; `run/interruptions.py`: what ends or stops it
9. `run/stages.py`          a stage with its gates; `run/running_step.py`: one step of it
10. `run/rollback.py`       the way back: undoing what really ran

Then, by question:

* When does a check pass, breach, or say nothing? `checks/window.py`, then `checks/judge.py`
* Which guards count, and when? `checks/guards.py`
* Why do the clocks of a run stand still? `run/holds.py`
* What does a new version do to the run under way? `run/superseding.py`
* How is one line of a rollback undone? `run/undo_lines.py`
* In which order? `run/rollback_plan.py` puts the lines in order; `run/rollback_lines.py` says which
  of them wait
* How is a stage judged once its steps are done? `run/stage_gates.py`
* Why does nothing start? `run/rest_checks.py`
* What is looked at before a decision? `model/needs.py`, then `run/needs.py`

The rooms: `model` (what decisions are made of), `run` (a run, from its beginning to its ending),
`checks` (what is measured), `interventions` (what people ask), `report` (what is said of it),
`spec` (what a body says), `steps` (one file for each step kind), `text` (texts of others).
`memory.py` and `fair_memory.py` keep what was computed, within bounds; `fingerprints.py` hashes it.
"""
