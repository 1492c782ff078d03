"""Any receiver of webhooks, signed as Standard Webhooks has it.

1. `connection.py`      where it is, and the keys that sign
2. `notifier.py`        one POST a message
"""
