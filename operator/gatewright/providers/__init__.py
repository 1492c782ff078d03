"""What Gatewright asks and changes: a folder for each vendor, and the only list of them.

To understand a provider, read in this order:

1. `registry.py`        every provider there is, by the key that users write
2. `http`               the simplest vendor: a connection and a gate
3. `common`             what vendors share; it knows none of them
4. `workload`           the cluster's own target

In a vendor's folder a file is named after what it is: `connection.py`, `gate.py`, `target.py`,
`flags.py`, `action.py`, `notifier.py`. Vendors do not know each other.

`validate.py` checks a spec against the registry, by `places.py` and `units.py`, each configuration
by `config_problems.py`, and says what is wrong by `error_messages.py`; `connections_used.py` lists
the Connections of a spec. `reports` reads what a Job leaves behind.
"""
