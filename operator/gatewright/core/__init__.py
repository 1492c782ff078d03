"""Decisions: pure functions of their arguments. No clock, no I/O, no asyncio, no logging.

To understand a run, read in this order:

1. `model`                  what goes in and what comes out: View, Observation, Decision, Operation
2. `run/decide.py`          one decision: which situation, which action, until the phase stays
3. `run/situations.py`      what a Release is in, before a run, during one and at rest
4. `run/phases.py`          the phases of a run; `run/interruptions.py`: what ends or stops one
5. `run/stages.py`          a stage with its gates; `run/running_step.py`: one step of it
6. `checks/window.py`       when a check passes, breaches, or is silent
7. `run/rollback.py`        undoing what really ran; `run/undo_lines.py`: one line of it

The other rooms: `checks` (what is measured), `interventions` (what people ask), `report` (what is
said of it), `spec` (what a body says), `steps` (one
file for each step kind), `text` (texts of others). `memory.py` and `fair_memory.py`
keep what was computed, within bounds; `fingerprints.py` hashes it.
"""
