"""Vercel: a project, its production, and its variables.

1.  `connection.py`      the REST API, and what is read by more than one part
2.  `logs.py`            the ends of a deployment's logs
3.  `production.py`      what production is, and how it came to be that: read only
4.  `smoke.py`           one request to a deployment's own URL
5.  `rollout.py`         how a version gets to production
6.  `variable_marks.py`  what the comment of a variable says about flags, and what has changed
7.  `withdrawing.py`     what was built and not promoted is withdrawn
8.  `restoring.py`       how production gets back to what was recorded
9.  `standing.py`        whether production still is what a run has made of it
10. `target.py`          the target that is made of these
11. `flag_variables.py`  flags as variables of production: read, written, and set back
12. `flag_standing.py`   whether variables and production are as flags are to be
13. `flags.py`           the flags that are made of these; they take effect by a new deployment

`gate.py` asks for variables that must be there, and for numbers from observability.
"""
