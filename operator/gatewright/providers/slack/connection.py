"""Slack's Web API, by Slack's own client over our transport.

slack_sdk knows the methods, their arguments and what an answer is; addresses, time, size, redirects
and redaction are those of every other vendor, because its requests are carried by `rest.call`. An
error of Slack is HTTP 200 with `ok: false`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlencode

from pydantic import BaseModel
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from gatewright.api.base import Model, SecretSource
from gatewright.api.connection import HttpUrl
from gatewright.core.text import foreign
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import replies, rest, words
from gatewright.providers.common.secrets import hide_secrets

_RETRYABLE_ERRORS = frozenset(
    {
        "ratelimited",
        "rate_limited",
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout",
    }
)
"""Errors that pass; every other one does not."""
_TOKEN_ERRORS = frozenset(
    {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"}
)
_PAUSE_S = 30.0


class SlackAccess(Model):
    """A Slack workspace, and the bot token that opens it."""

    url: HttpUrl = "https://slack.com/api"
    """Base URL of the Web API."""
    token: SecretSource
    """Bot token (`xoxb-...`) with `chat:write`; `channels:history` and `channels:read` help to find
    a message again."""

    def auth_headers(self, value: Callable[[SecretSource], str]) -> dict[str, str]:
        """Return the headers that open it; `value` reads a Secret."""
        return {"Authorization": f"Bearer {value(self.token)}"}


class SlackConnection:
    """The token is one that Slack knows."""

    config: ClassVar[type[BaseModel]] = SlackAccess

    async def check(self, link: OpenConnection) -> None:
        """Ask who we are."""
        await Slack(link).api_call("auth.test")


class SlackRefused(Permanent):
    """Slack said no; `error` is its own word for it, to be judged and not to be repeated."""

    def __init__(self, method: str, error: str, shown: str) -> None:
        super().__init__(f"Slack refuses {method}: {shown}")
        self.error = error


class Slack(AsyncWebClient):
    """slack_sdk's client of one Connection. Methods raise Refused (Permanent) and Retryable,
    nothing of slack_sdk's."""

    def __init__(self, link: OpenConnection) -> None:
        super().__init__(base_url=link.config.url, retry_handlers=[])
        self._link = link

    async def api_call(self, api_method: str, **options: Any) -> AsyncSlackResponse:
        """Call a method. Raises Retryable, Refused."""
        response: Any
        try:
            return await super().api_call(api_method, **options)
        except SlackApiError as error:
            response = error.response
        raise self._error_of_response(api_method, response)

    async def _request(
        self, *, http_verb: str, api_url: str, req_args: dict[str, Any]
    ) -> dict[str, Any]:
        """Send the request, as slack_sdk has made it up, by our own transport."""
        path = api_url.removeprefix(self.base_url.rstrip("/"))
        options: dict[str, Any] = {}
        if req_args.get("json") is not None:
            options = {"body": req_args["json"]}
        elif req_args.get("data"):
            form = {key: value for key, value in req_args["data"].items() if value is not None}
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            options = {"body": urlencode(form).encode(), "headers": headers}

        if http_verb == "GET" and req_args.get("params"):
            options["query"] = req_args["params"]

        reply = await rest.call(self._link, http_verb, path, **options)
        data = replies.json_of(reply)
        if not isinstance(data, dict) or "ok" not in data:
            raise Permanent(f"{reply.where}: the answer is not Slack's")

        return {"data": data, "headers": dict(reply.headers), "status_code": 200}

    def _error_of_response(self, method: str, response: Any) -> Retryable | Permanent:
        data = response.data if isinstance(response.data, dict) else {}
        # What is done is decided by the code itself, also where a message may not repeat it.
        code = foreign.to_plain_word(data.get("error")) or "unknown error"
        word = hide_secrets(words.to_plain_word(code) or "unknown error", self._link)
        if code in _RETRYABLE_ERRORS:
            error = Retryable(f"Slack cannot do {method} now: {word}")
            error.after = _PAUSE_S if "limited" in code else 0.0
            return error

        if code in _TOKEN_ERRORS:
            return SlackRefused(method, code, f"{word} (the token is not valid)")

        needed = rest.repeatable_text(self._link, data.get("needed") or "")
        scope = f" (it needs the scope {needed})" if needed else ""
        return SlackRefused(method, code, f"{word}{scope}")
