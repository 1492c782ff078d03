"""LaunchDarkly: flags, their targeting on or off in an environment.

1. `connection.py`      the REST API: whether a flag is on, and its switch
2. `gate.py`            whether a flag is on
3. `flags.py`           flags that a step switches, by `common.flag_switches`
"""
