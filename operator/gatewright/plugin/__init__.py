"""`kubectl release`: what a person sees of Releases and does to them, from a terminal or a script.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not over in time.
"""
