"""The shell around the decisions: watch, read, write, act, measure. Nothing here decides.

1. `operator.py`      a process: competes for the Lease, and acts while it has it
2. `controller.py`    takes over, starts watches and workers, stops; `runtime.py` has its parts
3. `intake.py`        what the watches tell; `relist.py` what they have not told
4. `tracking.py`      which Releases there are; `tracked.py` what is remembered of one between two
  passes, in records with one writer each (`records`, `status_record`, `recalled`)
5. `workers.py`       take Releases from the queue, namespaces in turn, and try again what fails
6. `reconcile.py`     one pass: read what is needed (`recall`, `observe`, `progress`), decide, write
  the status once (`decision_writes`), start what is to be done (`starting`)

The rooms: `cluster` (the API server), `execution` (what a run does and looks at), `telling`
(Events, notifications, metrics, health). Beside them: `sampler` measures, `connections` opens
systems, `interventions` takes what people ask, `admission_probe` tries the policies; `queue`,
`shares`, `budget`, `costs`, `usage` and `reading` keep one namespace out of another's way.
"""
