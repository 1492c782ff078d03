"""Kinds of external systems: how they are reached, and whether the credentials work."""
