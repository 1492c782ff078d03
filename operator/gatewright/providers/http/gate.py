"""http: a status, a value in the body, or a latency.

    {path: /api/health}                                        is the answer 200?
    {path: /api/health, jsonPath: $.version, equals: 2.4.0}    does the body say so?
    {path: /stats, jsonPath: $.queue.length}, max: "100"       how many? (a boolean needs no limits)
    {path: /, measure: Latency}, max: 300ms                    how long, from sending to the end of
                                                               the answer?

A status that is not expected is a breach in each of them: a quick 503 is no good latency. A service
that does not answer at all is an error, not a breach, because nobody knows why; `onError: Fail`
makes it one.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from gatewright.api.base import Model, Name, Text
from gatewright.api.conditions import Condition, Is
from gatewright.api.rules import Excludes, Needs, Rule
from gatewright.core.text import foreign
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common import client, jsonpath, replies, words
from gatewright.providers.common.jsonpath import JsonPath
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.common.secrets import PIECE_LENGTH, hide_secrets
from gatewright.providers.units import Unit

MAX_ESCAPES = 3
"""Times that a path is unescaped to see what it says: a proxy and a server may each do so once."""
_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def _plain_path(path: str) -> str:
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(
            f'"{path}" is not a path below the Connection\'s URL (try /{path.lstrip("/")})'
        )
    if not path.isascii() or not path.isprintable() or set(path) & set(' \\#"<>'):
        raise ValueError(f'"{path}" holds characters that a path must not; escape them as %XX')

    unescaped = _unescape(path.partition("?")[0])
    if unescaped is None or not unescaped.isprintable():
        raise ValueError(
            f'"{path}" hides characters behind escapes; write each of them as it is, or once as %XX'
        )
    # Tomcat and its kin take "..;x" for "..".
    segments = re.split(r"[/\\]", unescaped)
    if ".." in (segment.partition(";")[0].strip() for segment in segments):
        raise ValueError(f'"{path}" climbs by ".."; write the path in full')

    return path


def _unescape(path: str) -> str | None:
    """Return a path as the last of several servers may read it.

    None where it is escaped more often than that.
    """
    for _ in range(MAX_ESCAPES):
        plain = unquote(path)
        if plain == path:
            return plain
        path = plain
    return None


Path = Annotated[
    str,
    AfterValidator(_plain_path),
    WithJsonSchema({"type": "string", "maxLength": 1024, "pattern": r"^(/|\$\().*$"}),
    Field(max_length=1024),
]
Status = Annotated[int, Field(ge=100, le=599)]


EQUALS_NEEDS_PATH = Needs(
    "equals", "jsonPath", "equals needs jsonPath, which says what must be equal"
)


class HttpCheck(Model):
    """A status, a value in a JSON body, or a latency."""

    rules: ClassVar[tuple[Rule, ...]] = (
        EQUALS_NEEDS_PATH,
        Excludes(
            Is("measure", "Latency"),
            "jsonPath",
            message="measure: Latency and jsonPath are two questions; make them two checks",
        ),
        Excludes(
            Is("method", "HEAD"),
            "jsonPath",
            message="jsonPath needs a body, which HEAD does not have; use method: GET",
        ),
    )
    needs_limit: ClassVar[Condition] = Is("measure", "Latency")

    connection: Name | None = None
    """Name of the http Connection; the namespace's only one when left out."""
    path: Path
    """What is asked for, below the Connection's URL: `/api/health`."""
    method: Literal["GET", "HEAD"] = "GET"
    """Checks change nothing."""
    status: Annotated[list[Status], Field(min_length=1, max_length=10)] = [200]
    """Statuses that are good; every other is a breach. Redirects are not followed."""
    measure: Literal["Answer", "Latency"] = "Answer"
    """Answer: the status, and what `jsonPath` finds. Latency: seconds from sending to the end of
    the answer; needs `max`."""
    jsonPath: JsonPath | None = None
    """JSONPath (RFC 9535) of one value in the body, as `$.database.status`: a number for `max` and
    `min`, or a boolean."""
    equals: Text | None = None
    """What the value must be, compared as text (`true`, `2.4.0`, `null`); where the body has a
    number, as a number: 2.1 equals `2.10`, so let a version be a text there."""

    @property
    def limits(self) -> Literal["required", "optional", "useless"]:
        """Return whether max and min belong to this check."""
        if self.needs_limit.holds(self):
            return "required"
        return "optional" if self.jsonPath is not None and self.equals is None else "useless"


class HttpGate(PresentGate):
    """Asks an HTTP service."""

    config: ClassVar[type[BaseModel]] = HttpCheck
    connection: ClassVar[str] = "http"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: HttpCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        if config.measure == "Latency":
            return "seconds"
        return "boolean" if config.limits == "useless" else None

    async def measure(self, config: HttpCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        reply = await client.ask(link, config.method, config.path, headers=_accept_headers(config))
        if reply.status not in config.status:
            replies.refuse_redirect(reply)
            expected = " or ".join(map(str, config.status))
            return Answer(False, f"answered {reply.status}, expected {expected}")

        if config.measure == "Latency":
            return Answer(reply.seconds)
        if config.jsonPath is None:
            return Answer(True, f"answered {reply.status}")

        return await _find_value(config, config.jsonPath, reply, link)


def _accept_headers(config: HttpCheck) -> dict[str, str]:
    return {"Accept": "application/json" if config.jsonPath else "*/*"}


async def _find_value(
    config: HttpCheck, path: str, reply: replies.Reply, link: OpenConnection
) -> Answer:
    values = await jsonpath.evaluate_path(
        path, len(reply.body), lambda: replies.json_of(reply), link.namespace
    )
    if len(values) > 1:
        raise Permanent(f"{path} finds several values; it must lead to one")
    if not values:
        return Answer(None, f"{path} is not in the body")
    if config.equals is not None:
        return _compare_value(path, values[0], config.equals, link)

    return _answer_of(path, values[0])


def _compare_value(path: str, value: Any, expected: str, link: OpenConnection) -> Answer:
    if isinstance(value, dict | list):
        raise Permanent(f"{path} is an object or a list; it must lead to one value")
    actual = _text_of(value)
    if actual == expected or _is_same_number(value, expected):
        return Answer(True, f"{path} is {expected}")
    shown = words.quote_value(value)
    # A server may make of what the author asks whatever it likes, and send it back. A text in which
    # a piece of a Secret fits would tell by its mask whether a guess was right.
    if isinstance(value, str) and len(value) >= PIECE_LENGTH:
        shown = foreign.HIDDEN_TEXT
    return Answer(False, hide_secrets(f'{path} is {shown}, expected "{expected}"', link))


def _text_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _is_same_number(value: Any, expected: str) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and _JSON_NUMBER.fullmatch(expected) is not None and float(expected) == value


def _answer_of(path: str, value: Any) -> Answer:
    if value is None:
        return Answer(None, f"{path} is null")
    if isinstance(value, bool):
        return Answer(value, f"{path} is {_text_of(value)}")
    if not isinstance(value, int | float):
        raise Permanent(f"{path} is neither a number nor a boolean; say what it must be by equals")

    try:
        number = float(value)
    except OverflowError:
        number = math.inf

    return Answer(number) if math.isfinite(number) else Answer(None, f"{path} is {number}")
