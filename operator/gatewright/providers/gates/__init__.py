"""Kinds of measurement, one file each."""
