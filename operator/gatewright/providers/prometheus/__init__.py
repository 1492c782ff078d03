"""Prometheus and what speaks its HTTP API.

1. `connection.py`      one query, and its result
2. `gate.py`            one number by an instant query; earlier ones by a range query
"""
