"""Flag systems that speak OFREP, the OpenFeature Remote Evaluation Protocol.

1. `connection.py`      one flag evaluated for one context
2. `gate.py`            what a flag is for given users
"""
