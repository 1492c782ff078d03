"""Words of another system's answer, as messages may repeat them.

Whoever may `use` a Connection chooses what is asked, and many systems send some of that back. Were
a word repeated unless it is a Secret, the mask would tell whether a guess was right. So of a
Connection that has Secrets, and leads to no vendor's own API, only words are repeated that stand in
this file: the same ones, whatever the Secret is. Numbers, booleans and times are repeated of
anybody.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from gatewright.core.text import foreign
from gatewright.ports import OpenConnection
from gatewright.providers.common import vendor_hosts

_are_words_known_only: ContextVar[bool] = ContextVar("are_words_known_only", default=False)
_SHORT_NUMBER = 4
"""Characters from which digits may be a Secret."""
_VERSION = re.compile(r"v?\d{1,4}(\.\d{1,5}){1,3}")
_KNOWN = frozenset(
    re.findall(
        r"\S+",
        """
    account_inactive action_required active active_healthy active_unhealthy alive available
    bad_data blocked building cached canceled canceling cancelled cant_delete_message
    cant_update_message channel_not_found closed coming_up complete completed connected
    created critical dead default degraded deleted disabled disconnected done down
    edit_window_closed enabled error execution expired fail failed failing failure fatal
    fatal_error flag_not_found forbidden general going_down green healthy in_progress
    inactive init_failed initializing internal internal_error invalid invalid_auth
    invalid_context is_archived live maintenance message_not_found missing_scope
    msg_too_long neutral no no_permission no_text none not_allowed_token_type not_authed
    not_found not_in_channel null off offline ok okay on online open operational parse_error
    pass passed passing pause_failed paused pending provider_not_ready queryable queued
    rate_limited ratelimited ready red removed request_timeout requested resizing
    restore_failed restored restoring restricted_action restricted_action_read_only_channel
    running service_unavailable skipped split stale started starting startup_failure static
    stopped stopping succeeded success targeting_key_missing targeting_match
    team_access_not_granted timed_out timeout token_expired token_revoked type_mismatch
    unauthorized unavailable unhealthy unknown unready up upgrading user_not_found waiting
    warn warning yellow yes
    """,
    )
)
"""States and codes that vendors document, and words in which health is told; in lower case."""


@contextlib.contextmanager
def of_answers(link: OpenConnection) -> Iterator[None]:
    """Repeat meanwhile only what may be repeated of what this Connection leads to."""
    token = _are_words_known_only.set(bool(link.secrets) and not vendor_hosts.is_vendor_host(link))
    try:
        yield
    finally:
        _are_words_known_only.reset(token)


def to_plain_word(value: Any) -> str | None:
    """Return a JSON value as a message may repeat it; None where it may not."""
    word = foreign.to_plain_word(value)
    if word is None or not isinstance(value, str) or not _are_words_known_only.get():
        return word
    return word if _is_known(word) else None


def quote_value(value: Any) -> str:
    """Return a JSON value in a sentence: a short one in quotes, of any other its kind alone."""
    if isinstance(value, str) and value and to_plain_word(value) is None:
        return foreign.HIDDEN_TEXT
    return foreign.quote_value(value)


def redirect_target(target: str, asked: str) -> str:
    """Return where a redirect leads (`replies.target_of`), as a message may say it.

    Of many services the path decides about it, and so whoever asks. `asked`: what was asked.
    """
    host = urlsplit(target).hostname if "//" in target else None
    is_repeated = host in (None, urlsplit(asked).hostname) or not _are_words_known_only.get()
    return target if is_repeated else "another host"


def _is_known(word: str) -> bool:
    is_number = foreign.parse_decimal(word) is not None and len(word) < _SHORT_NUMBER
    return (
        word.lower() in _KNOWN
        or foreign.is_time(word)
        or is_number
        or _VERSION.fullmatch(word) is not None
    )
