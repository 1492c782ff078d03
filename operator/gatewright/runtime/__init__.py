"""The shell around the decisions: watch, read, write, act, measure. Nothing here decides."""
