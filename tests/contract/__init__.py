"""Providers against real systems, and against a server that does everything wrong."""
