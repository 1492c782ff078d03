"""Checks: what was measured, and what that means.

`window` turns samples into a verdict; `judge` writes it into a status; `guards` are checks that go
on while a run does; `followups` are asked after it; `proof` is what a backup must show. No data is
never success.
"""
