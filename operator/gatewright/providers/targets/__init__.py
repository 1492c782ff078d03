"""Things that have a version."""
