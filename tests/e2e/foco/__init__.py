"""The stand-in for foco.mx that the demo and the end-to-end tests release for real; see README.md
beside this file."""
