"""Targets outside the cluster."""
