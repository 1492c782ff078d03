"""Prometheus and what speaks its HTTP API v1 (Thanos, Mimir, VictoriaMetrics).

An answer is a JSON object: `{"status": "success", "data": {...}, "warnings": [...]}`, or
`{"status": "error", "errorType": ..., "error": ...}` with status 400, 422 or 503. Of an error's
text only what is known of it is repeated, and where in the query it is: anybody may answer like
that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel

from gatewright.api.connection import HttpAccess
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import client, replies, words
from gatewright.providers.common.secrets import hide_secrets

_MAX_ERROR_LENGTH = 4096
"""Characters of an error that are looked at."""
_PLACE = re.compile(r"\b([0-9]{1,5}):([0-9]{1,5}): parse error")
_KNOWN_PHRASES = (
    "unclosed left parenthesis",
    "unclosed left brace",
    "unexpected end of input",
    "unexpected identifier",
    "unexpected character",
    "unexpected left brace",
    "unexpected right parenthesis",
    "no expression found in input",
    "unknown function",
    "missing unit character in duration",
    "bad number or duration syntax",
    "duration must be greater than 0",
    "expected type",
    "unterminated quoted string",
    "vector selector must contain at least one non-empty matcher",
    "invalid expression type",
    "many-to-many matching not allowed",
    "multiple matches for labels",
    "found duplicate series",
    "query timed out",
    "too many samples",
    "too many outstanding requests",
    "exceeded maximum resolution",
    "not ready",
    "parse error",
)
"""What errors say, as Prometheus and its kin have it; the first that fits is repeated."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A successful answer; `warning` is set where it may be partial."""

    kind: str
    value: Any
    warning: str = ""


async def run_query(link: OpenConnection, path: str, form: Mapping[str, str]) -> QueryResult:
    """Ask `/api/v1/query` or `/api/v1/query_range`. Raises Retryable, Permanent."""
    # A little less than the link's own time, so that Prometheus itself says which query was too
    # slow.
    limit = f"{max(1, int(link.timeout * 900))}ms"
    reply = await client.ask(link, "POST", path, form={**form, "timeout": limit})
    if reply.status not in (400, 422, 503):
        replies.require_ok(reply)
    elif not _is_json(reply):
        replies.require_ok(reply)
        raise Permanent(f"{reply.where}: answered {reply.status}, not as Prometheus does")

    answer = replies.json_of(reply)
    if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
        raise Permanent(f"{reply.where}: this is not the Prometheus API")
    if answer["status"] == "error":
        raise _error_of_failure(link, reply, answer)

    return _result_of(reply, answer)


class PrometheusConnection:
    """A Prometheus that evaluates `vector(1)`."""

    config: ClassVar[type[BaseModel]] = HttpAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask the cheapest question there is, by the way that gates ask theirs."""
        result = await run_query(link, "/api/v1/query", {"query": "vector(1)"})
        if result.kind != "vector" or not result.value:
            raise Permanent("vector(1) has no answer; this is not a Prometheus")


def _is_json(reply: replies.Reply) -> bool:
    return "json" in reply.headers.get("content-type", "")


def _error_of_failure(
    link: OpenConnection, reply: replies.Reply, answer: Mapping[str, Any]
) -> Retryable | Permanent:
    kind = answer.get("errorType")
    explanation = str(answer.get("error", ""))[:_MAX_ERROR_LENGTH]
    meant = next((f": {phrase}" for phrase in _KNOWN_PHRASES if phrase in explanation), "")

    # A query that cannot be read does not get better by waiting.
    if reply.status < 500 and kind == "bad_data":
        place = _PLACE.search(explanation)
        at = f" at line {place[1]}, character {place[2]}" if place is not None else ""
        return Permanent(f"the query is refused{at}{meant}")

    shown = words.to_plain_word(kind) or "error"
    return Retryable(hide_secrets(f"{reply.where}: {shown}{meant}", link))


def _result_of(reply: replies.Reply, answer: Mapping[str, Any]) -> QueryResult:
    data = answer.get("data")
    if not isinstance(data, dict) or "result" not in data:
        raise Permanent(f"{reply.where}: this is not the Prometheus API")
    if not isinstance(data.get("resultType"), str):
        raise Permanent(f"{reply.where}: this is not the Prometheus API")

    warnings = answer.get("warnings") or []
    count = len(warnings) if isinstance(warnings, list) else 1
    warning = f"{count} warning{'s' if count > 1 else ''}" if count else ""
    return QueryResult(data["resultType"], data["result"], warning)
