"""What stands behind the commands of bin/ and scripts/; see README.md."""
