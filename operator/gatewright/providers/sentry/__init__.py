"""Sentry, of sentry.io or self-hosted.

1. `connection.py`      the web API: pages, limits, names
2. `questions.py`       what may be asked about a release
3. `gate.py`            how a release does, by what Sentry has received of it
4. `action.py`          tells Sentry about a release, and that it was deployed
"""
