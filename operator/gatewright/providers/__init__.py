"""What Gatewright asks and changes: connections, gates and targets, one file each; `registry` is
the only list."""
