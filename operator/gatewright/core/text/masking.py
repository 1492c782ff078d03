"""Text of others, fit to be repeated in a status: in one line, short, and without secrets.

A log may hold anything, and whoever may read a Release may read its status. So what looks like a
secret is masked, in this order:

    blocks       PEM keys, whole, also where their beginning was cut off
    URLs         user and password; all that follows the host of a webhook; words in paths that
                 look random
    tokens       what begins as the keys of well-known vendors do, and JWTs
    names        the value after a name such as `key`, `token` or `password`: to its closing quote,
                 else to the next space
    long words   of letters and digits, but for what people look for: digests of images, commits,
                 UUIDs, names of objects

All of it takes time linear to the text. Whatever is cut is masked before: a secret that was cut
looks like none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gatewright.core.text.secret_blocks import mask_blocks
from gatewright.core.text.secret_urls import mask_credentials
from gatewright.core.text.secret_values import mask_values
from gatewright.core.text.secret_words import has_random_part, mask_tokens, mask_words

MOST_LOG_CHARS = 500
"""Characters of a log that are repeated in a message."""
MOST_TEXT_CHARS = 16 * 1024
"""Characters of a text that are looked at."""
LOG_END_MARK = "its log ends: "
"""Goes before the end of a log in a message."""
LINE_BREAK_MARK = " / "
"""Stands for a line break."""
_ELLIPSIS = "…"
"""Stands for what was cut off."""
_ANSI = re.compile(r"\x1b\[[0-9;]*+[A-Za-z]")
_CUT_WORDS = 3
"""Words at the cut end of a text that are left out: a part of a secret, and what would have told
that it is one."""


def join_lines(lines: Iterable[str]) -> str:
    """Lines of a log in one, without colours."""
    return LINE_BREAK_MARK.join(
        " ".join(_ANSI.sub("", line).split()) for line in lines if line.strip()
    )


def mask_secrets(text: str) -> str:
    """Return a text without what looks like a secret, in time linear to its length."""
    for mask in (mask_blocks, mask_credentials, mask_tokens, mask_values, mask_words):
        text = mask(text)
    return text


def is_like_key(text: str) -> bool:
    """Return whether a short text, or a word in it, looks like a secret."""
    return mask_secrets(text) != text or has_random_part(text)


def mask_beginning(text: str, longest: int) -> str:
    """Return the masked beginning of a text, at most so many characters."""
    if len(text) > MOST_TEXT_CHARS:
        text = " ".join(text[:MOST_TEXT_CHARS].split(" ")[:-_CUT_WORDS])
    return keep_beginning(mask_secrets(text), longest)


def mask_ending(text: str, cut: bool = False) -> str:
    """Return the masked end of a text, at most `MOST_LOG_CHARS` characters and `…`.

    `cut`: its beginning is not there any more.
    """
    return keep_end(mask_secrets(take_end(text, cut)))


def take_end(text: str, cut: bool = False) -> str:
    """As much of the end of a text as is looked at, and no cut word.

    What a cut word belongs to is not known, nor whether a name before it makes it a secret.
    """
    if len(text) <= MOST_TEXT_CHARS and not cut:
        return text
    return "… " + "".join(text[-MOST_TEXT_CHARS:].split(" ", _CUT_WORDS)[_CUT_WORDS:])


def keep_beginning(text: str, longest: int) -> str:
    """Return the beginning of a text that is too long, which nobody has to mask any more."""
    return text if len(text) <= longest else f"{text[: longest - 1]}{_ELLIPSIS}"


def keep_bytes(text: str, most: int) -> str:
    """Return the beginning of a text that has more bytes of UTF-8; no character is cut in two."""
    encoded = text.encode(errors="surrogatepass")
    if len(encoded) <= most:
        return text
    return f"{encoded[: most - len(_ELLIPSIS.encode())].decode(errors='ignore')}{_ELLIPSIS}"


def keep_end(text: str) -> str:
    """Return the end of a text that is too long, which nobody has to mask any more."""
    return text if len(text) <= MOST_LOG_CHARS else f"{_ELLIPSIS}{text[-MOST_LOG_CHARS:]}"


__all__ = [
    "LINE_BREAK_MARK",
    "LOG_END_MARK",
    "MOST_LOG_CHARS",
    "MOST_TEXT_CHARS",
    "is_like_key",
    "join_lines",
    "keep_beginning",
    "keep_bytes",
    "keep_end",
    "mask_beginning",
    "mask_credentials",
    "mask_ending",
    "mask_secrets",
    "take_end",
]
