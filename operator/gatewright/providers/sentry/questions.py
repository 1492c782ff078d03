"""What may be asked of Sentry about a release."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gatewright.api.base import Duration, Model, Text, seconds

MINUTE_S = 60
_DAY_S = 86_400


def _require_window(window: str) -> str:
    if not MINUTE_S <= seconds(window) <= _DAY_S or seconds(window) % MINUTE_S:
        raise ValueError(f'"{window}" is no window: whole minutes, from 1m to 24h (try 5m)')
    return window


def _require_terms(terms: str) -> str:
    if " OR " in f" {terms.upper()} ":
        raise ValueError("OR would set the release aside; name several values as key:[a, b]")
    return terms


Window = Annotated[Duration, AfterValidator(_require_window)]
Terms = Annotated[Text, AfterValidator(_require_terms)]


class SentryErrors(Model):
    """Which error events are counted."""

    window: Window = "5m"
    """Over which time, in whole minutes."""
    query: Terms = ""
    """Further search terms, as `level:fatal !error.type:TimeoutError`."""
    evidence: Literal["Transactions", "Release"] = "Transactions"
    """What makes none a 0 and not an unknown. Transactions: some of this release were seen over the
    same time. Release: Sentry knows the release, for what sends no transactions."""


class SentryTransactions(Model):
    """Which transactions are looked at."""

    window: Window = "5m"
    """Over which time, in whole minutes."""
    query: Terms = ""
    """Further search terms, as `transaction:/api/*`."""
    minimum: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Fewer transactions than this are no data."""


class SentryIssues(Model):
    """Which new issues are counted."""

    levels: Annotated[
        list[Literal["fatal", "error", "warning", "info", "debug", "sample"]],
        Field(min_length=1, max_length=6),
    ] = ["error", "fatal"]
    """Levels that count."""
    query: Terms = ""
    """Further search terms, as `!assigned:[me, none]`."""
    evidence: Literal["Transactions", "Release"] = "Transactions"
    """What makes none a 0 and not an unknown. Transactions: some of this release were seen in the
    last hour. Release: Sentry knows the release."""
