"""Hosts whose answers are the vendors' own, whoever has written the Connection."""

from __future__ import annotations

from urllib.parse import urlsplit

from gatewright.ports import OpenConnection

VENDOR_HOSTS = (
    "api.github.com",
    "ghe.com",
    "sentry.io",
    "launchdarkly.com",
    "launchdarkly.us",
    "api.supabase.com",
    "api.vercel.com",
    "slack.com",
    "api.statuspage.io",
    "events.pagerduty.com",
    "events.eu.pagerduty.com",
    "api.openai.com",
)


def is_vendor_host(link: OpenConnection) -> bool:
    """Return whether a Connection leads to a vendor's own API, known by its certificate; any other
    host is its author's choice."""
    written = getattr(link.config, "url", None)
    if not isinstance(written, str):
        return False
    url = urlsplit(written)
    host = url.hostname or ""
    return url.scheme == "https" and any(
        host == own or host.endswith(f".{own}") for own in VENDOR_HOSTS
    )
