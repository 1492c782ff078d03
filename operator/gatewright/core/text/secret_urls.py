"""What is secret in a URL: user and password, and all that follows the host of a webhook."""

from __future__ import annotations

import re

from gatewright.core.text.secret_words import MASK

_RUN = re.compile(r"[^\s\"'<>`]*+")
_PUNCTUATION = ".,;:!)}…"
_AUTHORITY = re.compile(r"[^/?#]*+")
_SCHEME_END = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]++\Z")
_SPACE = re.compile(r"\s|\Z")
_PORTS = re.compile(r"[^:]*+(?::\d{0,5}+)?+(?:,[^:,]*+(?::\d{0,5}+)?+)*+")
_WEBHOOK = re.compile(
    r"(?:hooks\.slack\.com"
    r"|discord(?:app)?\.com/api(?:/v\d+)?/webhooks"
    r"|(?:[\w-]++\.)?webhook\.office\.com"
    r"|outlook\.office(?:365)?\.com/webhook\w*+"
    r"|api\.telegram\.org"
    r"|events(?:\.eu)?\.pagerduty\.com/integration"
    r"|hooks\.zapier\.com"
    r"|hook\.\w++\.make\.com"
    r"|maker\.ifttt\.com"
    r"|chat\.googleapis\.com"
    r"|[\w.-]++\.logic\.azure\.com(?::443)?"
    r"|api\.opsgenie\.com"
    r"|alert\.victorops\.com"
    r"|hc-ping\.com"
    r"|uptime\.betterstack\.com)(?=[/?])",
    re.IGNORECASE,
)
_STORES = frozenset(
    """
    postgres postgresql mysql mariadb mongodb mongodb+srv redis rediss valkey amqp amqps mssql
    sqlserver clickhouse oracle cockroachdb kafka nats mqtt mqtts smtp smtps ftp ftps sftp ldap
    ldaps
    """.split()  # noqa: SIM905  # words, not quotes, are what is read here
)
"""Schemes whose URLs have nothing behind the host that holds an `@`, unless a password does."""
_HEX_SEGMENT = re.compile(
    r"(?<=/)(?<!commit/)(?<!commits/)(?<!tree/)(?<!blob/)[0-9a-f]{32,128}+(?![\w.:-])",
    re.IGNORECASE,
)


def mask_credentials(text: str) -> str:
    """Return a text without what is secret in its URLs.

    Without users and passwords, without what follows the host of a webhook, and without what looks
    like its token.
    """
    before, *rest = text.split("://")
    parts = [before]
    for part in rest:
        parts.append(_mask_after_scheme(_scheme_at_end(before), part))
        before = part

    return "://".join(parts)


def _mask_after_scheme(scheme: str, part: str) -> str:
    """Return what stands between two `://`, which begins with a URL, without its secrets."""
    run = _RUN.match(part)
    end = run.end() if run is not None else 0
    if not end:
        return part

    url = part[:end]
    if end == len(part) or part[end].isspace():
        # Of the sentence that it ends: `http://host:8080: no answer`.
        url = url.rstrip(_PUNCTUATION)

    masked = _mask_url(scheme, url)
    if masked is not None:
        return masked + part[len(url) :]
    # Its password holds a quote, and ends nobody knows where.
    return f"{part.partition(':')[0]}:{MASK}{part[_end_of_word(part, end) :]}"


def _end_of_word(text: str, place: int) -> int:
    space = _SPACE.search(text, place)
    return space.start() if space is not None else len(text)


def _scheme_at_end(text: str) -> str:
    scheme = _SCHEME_END.search(text, max(0, len(text) - 20))
    return scheme[0].lower() if scheme is not None else ""


def _mask_url(scheme: str, url: str) -> str | None:
    """Return a URL without what is secret in it; None where a quote in its password cuts it."""
    match = _AUTHORITY.match(url)
    authority = match[0] if match is not None else ""
    is_host = authority.startswith("[") or _PORTS.fullmatch(authority) is not None
    at = authority.rfind("@")

    # A password may hold the characters that end a host, and what is meant cannot always be told.
    host = authority[at + 1 :]
    is_no_host = at >= 0 and not set(host) & set(".:[") and host != "localhost"
    if scheme in _STORES or is_no_host or (at < 0 and not is_host):
        at = url.rfind("@")
    if at < 0 and not is_host:
        return None

    without_user = url[at + 1 :]
    webhook = _WEBHOOK.match(without_user)
    return f"{webhook[0]}/{MASK}" if webhook is not None else _HEX_SEGMENT.sub(MASK, without_user)
