"""The cluster's own target: a Deployment or StatefulSet, read and patched.

To understand it, read in this order:

1. `config.py`          what a user writes
2. `target.py`          the target itself: looked at, changed, followed and compared
3. `wanted.py`          what operations want, taken together
4. `template.py`        what is wanted of a pod template, field by field; `variables.py` below it
5. `applying.py`        the new template, and the patch that brings it
6. `rollout.py`         how far a rollout is
7. `comparing.py`       what runs instead of what is wanted
8. `availability.py`    whether what was deployed runs; below it `owned.py` and `pods.py`

`captured.py` marks a template with what its ConfigMaps and Secrets hold; `managers.py` tells who
set a field.
"""
