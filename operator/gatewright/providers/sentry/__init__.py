"""Sentry, of sentry.io or self-hosted.

1. `connection.py`      the web API: pages, limits, names
2. `gate.py`            how a release does, by what Sentry has received of it
3. `action.py`          tells Sentry about a release, and that it was deployed
"""
