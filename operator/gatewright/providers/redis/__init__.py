"""Redis, spoken over RESP2.

1. `connection.py`      one command, its answer, and what an error means
2. `resp.py`            the protocol on one connection
3. `gate.py`            hit ratio and memory, by INFO
4. `action.py`          keys removed by prefix; `flushing.py` does it, a slice at each look

Upstash speaks the same commands another way, and shares what is said in them.
"""
