"""Upstash: a Redis whose commands go over a REST API.

1. `connection.py`      one command, and its answer
2. `gate.py`            hit ratio and memory, as for `redis`
3. `action.py`          keys removed by prefix, as for `redis`
"""
