"""Vercel: a project, its production, and its variables.

1. `connection.py`      the REST API, and what is read by more than one part
2. `production.py`      what production is, and how it came to be that: read only
3. `rollout.py`         how a version gets to production
4. `restoring.py`       how production gets back to what was recorded
5. `standing.py`        whether production still is what a run has made of it
6. `target.py`          the target that is made of these
7. `flags.py`           flags as variables of production, which take effect by a new deployment

`gate.py` asks for variables that must be there, and for numbers from observability.
"""
