"""What stands after a name such as `key` or `token`, to its closing quote or a space."""

from __future__ import annotations

import re

from gatewright.core.text.secret_words import MASK

_NAME = re.compile(r"[\w.-]++")
_CERTAIN = re.compile(
    r"token|secret|passw|passphrase|credential|authorization|bearer|dsn"
    r"|signature|cookie|connection_?string"
    r"|(?<![a-z])(?:pwd|pass|sig|auth)(?![a-z])",
    re.IGNORECASE,
)
_FOLLOWED = re.compile(
    r"token|secret|passw|passphrase|credential|authorization|bearer|dsn", re.IGNORECASE
)
"""Names whose value may follow without a sign between."""
_HARMLESS = frozenset({"PWD", "OLDPWD", "pass", "PASS", "Pass"})
_LIKELY = re.compile(
    r"key(?<!monkey)(?<!hockey)(?<!turkey)(?<!donkey)(?!cloak|board|space|word|note|frame|stone)",
    re.IGNORECASE,
)
_SERVICE = re.compile(r"-(?:service|server|api|app|web|worker|controller|operator|proxy|gateway)\Z")
"""How names end of what runs and says something: `token-service: no endpoints`."""
_COUNTED = re.compile(
    r"(?:tokens|secrets|keys|passwords|credentials|cookies|signatures)\Z", re.IGNORECASE
)
"""Names of what there are many of, so that a number is how many."""
_COUNT = re.compile(r"[0-9]{1,9}")
_NOTHING = frozenset({"true", "false", "null", "none", "nil", "undefined"})
_AROUND = "\"'\\.,;:!()[]{}"
_OBJECT = re.compile(r"[\"']?[a-z0-9][a-z0-9.-]*+[\"']?")
_PLACED = re.compile(r"[a-z0-9-]++/[a-z0-9.-]++")
_STATE = re.compile(r" (?:not found|is forbidden|already exists)\b")
"""What Kubernetes says of an object that it names."""
_HEADER = re.compile(r"authorization$|cookie$", re.IGNORECASE)
_SCHEME = (
    r"(?:(?i:bearer|basic|digest|token|negotiate|oauth|apikey|api-key|aws4-hmac-sha256)"
    r"\s++(?=[^\s/]))?+"
)
_QUOTED = r"(?P<quote>\\{0,3}[\"'])(?s:.*?)(?<!\\)(?P=quote)"
_BREAKS = r"(?:\s++|/(?=\s))*+"
_BLOCK = r"(?:[|>][+-]?(?=\s))?+"
_ASSIGNED = re.compile(
    rf"(?:\\{{0,3}}[\"'])?+\s*+(?:=>|:=|[=:]){_BREAKS}{_BLOCK}{_BREAKS}"
    rf"(?P<value>{_QUOTED}|{_SCHEME}\S++)"
)
_FOLLOWING = re.compile(
    r"[\"']?+\s++(?P<is>(?:is|was)\s++)?+"
    rf"(?P<value>{_QUOTED}|(?:(?i:bearer|basic|digest)\s++(?=[^\s/]))?+\S++)"
)
_MORE_HEADER_PARTS = re.compile(r"(?:(?<=[,;])\s++[\w.%-]++=\S++)++")
"""Further parts of a header: `Cookie: a=1; b=2`."""
_KEY_LIKE = re.compile(r"[\d_+/=-]")  # but "duplicate key value" and "pkey / DETAIL:" stay
_LEAST_VALUE_CHARS = 4
_PLAIN_WORDS = frozenset(
    """
    is are was were has have had not for of and or in to from with by at on the a an must may
    can cannot does do did will supplied expired missing invalid required failed found rejected
    denied refused mismatch authentication error empty revoked unknown wrong provided given
    """.split()  # noqa: SIM905  # words, not quotes, are what is read here
)
"""Words after a name that are no value."""


def mask_values(text: str) -> str:
    """Return a text without the values that stand after a name such as `token`.

    Each name is looked at as a whole, and once.
    """
    parts: list[str] = []
    copied = place = 0

    while (name := _NAME.search(text, place)) is not None:
        place = name.end()
        value = _value_of(text, name)
        if value is not None:
            start, end = value
            parts += [text[copied:start], MASK]
            copied = place = end

    return "".join([*parts, text[copied:]])


def _value_of(text: str, name: re.Match[str]) -> tuple[int, int] | None:
    """Return where the value of a name begins and ends; None where it is no name of a secret."""
    if name[0] in _HARMLESS:
        return None

    is_certain = _CERTAIN.search(name[0]) is not None
    if not is_certain and _LIKELY.search(name[0]) is None:
        return None

    assigned = _ASSIGNED.match(text, name.end())
    if assigned is not None:
        return _assigned_span(text, name, assigned)

    following = _FOLLOWING.match(text, name.end())
    if following is None or _is_object(text, name, following):
        return None
    may_be_any = following["is"] is None and is_certain
    return following.span("value") if _is_value(name[0], following["value"], may_be_any) else None


def _assigned_span(
    text: str, name: re.Match[str], assigned: re.Match[str]
) -> tuple[int, int] | None:
    if _is_harmless_value(text, name, assigned["value"]):
        return None

    more = _MORE_HEADER_PARTS.match(text, assigned.end()) if _HEADER.search(name[0]) else None
    end = more.end() if more is not None else assigned.end("value")
    return assigned.start("value"), end


def _is_harmless_value(text: str, name: re.Match[str], value: str) -> bool:
    """Return whether what is assigned to a name is no secret.

    It tells how many there are, or that there is none, or is what a service says.
    """
    bare = value.strip(_AROUND)
    if bare.lower() in _NOTHING:
        return True
    if _COUNT.fullmatch(bare) is not None and _COUNTED.search(name[0]) is not None:
        return True

    is_message = text.startswith(": ", name.end())
    return is_message and _SERVICE.search(name[0]) is not None and name[0].islower()


def _is_object(text: str, name: re.Match[str], value: re.Match[str]) -> bool:
    """Return whether Kubernetes speaks of an object of kind Secret, whose name follows."""
    if name[0].lower() not in ("secret", "secrets"):
        return False

    has_state = _STATE.match(text, value.end()) is not None
    if has_state and _OBJECT.fullmatch(value["value"]) is not None:
        return True
    is_place = text.startswith("in ", max(0, name.start() - 3))
    return is_place and _PLACED.fullmatch(value["value"]) is not None


def _is_value(name: str, value: str, may_be_any: bool) -> bool:
    """Return whether what follows a name without a sign between is its value."""
    if name.startswith("--"):
        return not value.startswith("-")
    if may_be_any and _FOLLOWED.search(name) is not None:
        return value.lower().strip(".,;:!()") not in _PLAIN_WORDS
    return len(value) >= _LEAST_VALUE_CHARS and _KEY_LIKE.search(value) is not None
