"""Decisions: pure functions of their arguments; no clock, no I/O, no asyncio, no logging."""
