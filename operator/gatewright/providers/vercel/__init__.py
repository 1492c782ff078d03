"""Vercel: a project, its production, and its variables.

1.  `connection.py`      the REST API, and what is read by more than one part
2.  `logs.py`            the ends of a deployment's logs
3.  `production.py`      what production is, and how it came to be that: read only
4.  `smoke.py`           one request to a deployment's own URL
5.  `rollout.py`         how a version gets to production
6.  `variable_marks.py`  what the comment of a variable says about flags, and what has changed
7.  `restoring.py`       how production gets back to what was recorded
8.  `standing.py`        whether production still is what a run has made of it
9.  `target.py`          the target that is made of these
10. `flag_variables.py`  flags as variables of production: read, written, and set back
11. `flag_standing.py`   whether variables and production are as flags are to be
12. `flags.py`           the flags that are made of these; they take effect by a new deployment

`gate.py` asks for variables that must be there, and for numbers from observability.
"""
