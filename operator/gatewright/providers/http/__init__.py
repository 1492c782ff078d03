"""Anything that answers over HTTP.

1. `connection.py`      whether it answers at its base URL
2. `gate.py`            a status, a value in the body, a latency
"""
