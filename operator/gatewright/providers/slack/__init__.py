"""Slack: one message a run, and a thread below it.

1. `connection.py`      Slack's own client over our transport
2. `notifier.py`        what is posted, and what is edited in place
"""
