"""OpenAI: whether an API key is accepted.

1. `connection.py`      what the API says of a key, without a word of its own
2. `gate.py`            whether the key works, or no longer does
"""
