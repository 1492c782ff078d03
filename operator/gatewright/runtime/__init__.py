"""The shell around the decisions: watch, read, write, act, measure. Nothing here decides.

1. `operator.py`      a process: competes for the Lease, and acts while it has it
2. `controller.py`    watches feed a queue; workers take Releases from it, namespaces in turn
3. `reconcile.py`     one Release: read what is needed, decide, write the status once, begin what
  is to be done
4. `tracked.py`       what is remembered of a Release between two passes

The rooms: `cluster` (the API server), `execution` (what a run does and looks at), `telling`
(Events, notifications, metrics, health). Beside them: `sampler` measures, `connections` opens
systems, `interventions` takes what people ask, `admission_probe` tries the policies; `queue`,
`shares`, `budget`, `costs`, `usage` and `reading` keep one namespace out of another's way.
"""
