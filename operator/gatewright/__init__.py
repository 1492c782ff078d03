"""Gatewright: the Kubernetes operator that runs a production runbook."""

__version__ = "0.1.0"
