"""What is said of a Release: `conditions` in its status, `notifications` to people; `size` keeps a
status small."""
