"""Figures, printed: `python -m tests.bench` runs all of them, `python -m tests.bench decision` one.
Nothing is asserted.

decision   B1: from a breaching answer to the rollback's first write fleet      B2: requests, CPU
and memory of 200 Releases of five stages at once, and what is written while they bake
"""
