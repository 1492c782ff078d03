"""PagerDuty: alerts and change events.

1. `connection.py`      the Events API: a routing key, and two paths
2. `notifier.py`        which message becomes an alert, a change event or the end of one
"""
