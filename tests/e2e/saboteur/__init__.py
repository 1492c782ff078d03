"""What other people do to a namespace while a Release walks in it, at every point of a run, drawn
by seed.

draws.py       a seed is a draw: where in the run, what is done, and whether the release is a bad
one play.py        what it is done to: a Release of five stages, two workloads, and their
configuration acts.py        what is done: undo, set image, delete and re-create, scale, quota, kill
the operator ... ground.py      the cluster and the operator on it, a record of every object's every
version, and the gate's stand-in site.py        one draw, played in a namespace of its own
records.py     what stood in that namespace at any moment oracle.py      what has to be true of it,
from the API server's records alone image/         what the pods run: they sleep, or crash, as their
version says

Each draw has a seed, and each seed is a draw: `make saboteur SEED=17 DRAWS=1` plays what was seen
once again.
"""
