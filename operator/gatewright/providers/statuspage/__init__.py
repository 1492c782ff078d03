"""Atlassian Statuspage: what customers are told.

1. `connection.py`      an API key with one request a second, each in its turn
2. `notifier.py`        maintenances, incidents, and their ends
"""
