"""Unleash: flags, enabled or disabled in an environment.

1. `connection.py`      the admin API: the state of a flag, and its switch
2. `gate.py`            whether a flag is enabled
3. `flags.py`           flags that a step switches, by `common.flag_switches`
"""
