"""GitHub, of github.com or of an Enterprise server.

1. `connection.py`      the REST API, and whether the token works
2. `gate.py`            the checks of a commit, the number of open issues
3. `action.py`          a deployment record, a workflow that is started and waited for
"""
