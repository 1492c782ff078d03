"""GitHub, of github.com or of an Enterprise server.

1. `connection.py`      the REST API, and whether the token works
2. `gate.py`            the checks of a commit, the number of open issues
3. `deployments.py`     a deployment record of a run, and its state
4. `workflows.py`       a workflow that is started and waited for
5. `action.py`          the step that does either
"""
