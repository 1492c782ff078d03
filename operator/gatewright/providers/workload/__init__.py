"""The cluster's own target: a Deployment or StatefulSet, read and patched.

To understand it, read in this order:

1. `target.py`          the target itself: what is wanted, applied, restored and compared
2. `template.py`        what is wanted of a pod template, field by field
3. `rollout.py`         how far a rollout is
4. `availability.py`    whether what was deployed runs; below it `owned.py` and `pods.py`

`captured.py` marks a template with what its ConfigMaps and Secrets hold; `managers.py` tells who
set a field.
"""
