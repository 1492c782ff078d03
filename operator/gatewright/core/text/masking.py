"""Text of others, fit to be repeated in a status: in one line, short, and without what looks like a
secret.

A log may hold anything, and whoever may read a Release may read its status. So these are masked, in
this order:

    blocks       PEM keys, whole, also where their beginning was cut off
    URLs         user and password; all that follows the host of a webhook; words in paths that look random
    tokens       what begins as the keys of well-known vendors do, and JWTs
    names        the value after a name such as `key`, `token` or `password`: to its closing quote, else to the next space
    long words   of letters and digits, but for what people look for: digests of images, commits, UUIDs, names of objects

All of it takes time linear to the text. Whatever is cut is masked before: a secret that was cut
looks like none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

MOST_LOG_CHARS = 500
"""Characters of a log that are repeated in a message."""
MOST_TEXT_CHARS = 16 * 1024
"""Characters of a text that are looked at."""
LOG_END_MARK = "its log ends: "
"""Goes before the end of a log in a message."""
LINE_BREAK_MARK = " / "
"""Stands for a line break."""
_MASK = "***"
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
    return _mask_words(_mask_values(_TOKEN.sub(_MASK, mask_credentials(_mask_blocks(text)))))


def is_like_key(text: str) -> bool:
    """Return whether a short text, or a word in it, looks like a secret."""
    return mask_secrets(text) != text or any(_is_random(part) for part in _PARTS.findall(text))


def mask_beginning(text: str, longest: int) -> str:
    """Return the masked beginning of a text, at most so many characters."""
    if len(text) > MOST_TEXT_CHARS:
        text = " ".join(text[:MOST_TEXT_CHARS].split(" ")[:-_CUT_WORDS])
    return keep_beginning(mask_secrets(text), longest)


def mask_ending(text: str, cut: bool = False) -> str:
    """Return the masked end of a text, at most `MOST_LOG_CHARS` characters and `…`; `cut`: its
    beginning is not there any more."""
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
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def keep_end(text: str) -> str:
    """Return the end of a text that is too long, which nobody has to mask any more."""
    return text if len(text) <= MOST_LOG_CHARS else f"…{text[-MOST_LOG_CHARS:]}"


# --- blocks

_EDGE = re.compile(r"-----(?:BEGIN|(END)) [A-Z0-9 ]{1,40}-----")
_ENCODED = re.compile(r"[A-Za-z0-9+/=\\]++")
_WORDS = re.compile(r"\S++")
_LEAST_LINE_CHARS = 40
"""Characters of a line of a block, but for its last one."""


def _mask_blocks(text: str) -> str:
    parts: list[str] = []
    place, inside = 0, False
    for edge in _EDGE.finditer(text):
        if edge[1] is not None:
            # the beginning of a block may have been cut off
            parts += [] if inside else [_strip_encoded(text[place : edge.start()]), _MASK]
            place, inside = edge.end(), False
        elif not inside:
            parts += [text[place : edge.start()], _MASK]
            inside = True

    return "".join(parts if inside else [*parts, text[place:]])


def _strip_encoded(text: str) -> str:
    """Return a text up to the lines of base64 that it ends with."""
    words = list(_WORDS.finditer(text))
    last = len(words)
    while last and _ENCODED.fullmatch(words[last - 1][0]):
        line = words[last - 1][0]
        if last < len(words) and line != "/" and len(line) < _LEAST_LINE_CHARS:
            break
        last -= 1
    return text[: words[last].start()] if last < len(words) else text


# --- URLs

_RUN = re.compile(r"[^\s\"'<>`]*+")
_PUNCTUATION = ".,;:!)}…"
_AUTHORITY = re.compile(r"[^/?#]*+")
_SCHEME_END = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]++\Z")
_SPACE = re.compile(r"\s|\Z")
_PORTS = re.compile(r"[^:]*+(?::\d{0,5}+)?+(?:,[^:,]*+(?::\d{0,5}+)?+)*+")
_WEBHOOK = re.compile(
    r"(?:hooks\.slack\.com|discord(?:app)?\.com/api(?:/v\d+)?/webhooks|(?:[\w-]++\.)?webhook\.office\.com|outlook\.office(?:365)?\.com"
    r"/webhook\w*+|api\.telegram\.org|events(?:\.eu)?\.pagerduty\.com/integration|hooks\.zapier\.com|hook\.\w++\.make\.com"
    r"|maker\.ifttt\.com|chat\.googleapis\.com|[\w.-]++\.logic\.azure\.com(?::443)?|api\.opsgenie\.com|alert\.victorops\.com"
    r"|hc-ping\.com|uptime\.betterstack\.com)(?=[/?])",
    re.IGNORECASE,
)
_STORES = frozenset(
    {
        "postgres",
        "postgresql",
        "mysql",
        "mariadb",
        "mongodb",
        "mongodb+srv",
        "redis",
        "rediss",
        "valkey",
        "amqp",
        "amqps",
        "mssql",
        "sqlserver",
        "clickhouse",
        "oracle",
        "cockroachdb",
        "kafka",
        "nats",
        "mqtt",
        "mqtts",
        "smtp",
        "smtps",
        "ftp",
        "ftps",
        "sftp",
        "ldap",
        "ldaps",
    }
)
"""Schemes whose URLs have nothing behind the host that holds an `@`, unless a password does."""
_HEX_SEGMENT = re.compile(
    r"(?<=/)(?<!commit/)(?<!commits/)(?<!tree/)(?<!blob/)[0-9a-f]{32,128}+(?![\w.:-])",
    re.IGNORECASE,
)


def mask_credentials(text: str) -> str:
    """Without users and passwords in URLs, without what follows the host of a webhook and what
    looks like its token."""
    first, *rest = text.split("://")
    parts = [first]
    for index, part in enumerate(rest):
        run = _RUN.match(part)
        end = run.end() if run is not None else 0
        if not end:
            parts.append(part)
            continue
        bare = part[:end]
        if end == len(part) or part[end].isspace():
            # Of the sentence that it ends: `http://host:8080: no answer`.
            bare = bare.rstrip(_PUNCTUATION)
        url = _mask_url(_scheme_before(rest[index - 1] if index else first), bare)
        if url is not None:
            end = len(bare)
        else:  # its password holds a quote
            end = _end_of_word(part, end)
            url = f"{part.partition(':')[0]}:{_MASK}"
        parts.append(url + part[end:])

    return "://".join(parts)


def _end_of_word(text: str, place: int) -> int:
    space = _SPACE.search(text, place)
    return space.start() if space is not None else len(text)


def _scheme_before(before: str) -> str:
    found = _SCHEME_END.search(before, max(0, len(before) - 20))
    return found[0].lower() if found is not None else ""


def _mask_url(scheme: str, url: str) -> str | None:
    """Return a URL without what is secret in it; None where it is cut by a quote in its password."""
    found = _AUTHORITY.match(url)
    authority = found[0] if found is not None else ""
    is_host = authority.startswith("[") or _PORTS.fullmatch(authority) is not None
    at = authority.rfind("@")
    host = authority[at + 1 :]

    # a password may hold the characters that end a host, and what is meant cannot always be told
    if (
        scheme in _STORES
        or (at >= 0 and not set(host) & set(".:[") and host != "localhost")
        or (at < 0 and not is_host)
    ):
        at = url.rfind("@")
    if at < 0 and not is_host:
        return None

    url = url[at + 1 :]
    webhook = _WEBHOOK.match(url)
    return _HEX_SEGMENT.sub(_MASK, url) if webhook is None else f"{webhook[0]}/{_MASK}"


# --- values after a name

_NAME = re.compile(r"[\w.-]++")
_CERTAIN = re.compile(
    r"token|secret|passw|passphrase|credential|authorization|bearer|dsn|signature|cookie|connection_?string"
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
_SCHEME = r"(?:(?i:bearer|basic|digest|token|negotiate|oauth|apikey|api-key|aws4-hmac-sha256)\s++(?=[^\s/]))?+"
_QUOTED = r"(?P<quote>\\{0,3}[\"'])(?s:.*?)(?<!\\)(?P=quote)"
_BREAKS = r"(?:\s++|/(?=\s))*+"
_BLOCK = r"(?:[|>][+-]?(?=\s))?+"
_ASSIGNED = re.compile(
    rf"(?:\\{{0,3}}[\"'])?+\s*+(?:=>|:=|[=:]){_BREAKS}{_BLOCK}{_BREAKS}(?P<value>{_QUOTED}|{_SCHEME}\S++)"
)
_FOLLOWING = re.compile(
    rf"[\"']?+\s++(?P<is>(?:is|was)\s++)?+(?P<value>{_QUOTED}|(?:(?i:bearer|basic|digest)\s++(?=[^\s/]))?+\S++)"
)
_MORE_HEADER_PARTS = re.compile(r"(?:(?<=[,;])\s++[\w.%-]++=\S++)++")
"""Further parts of a header: `Cookie: a=1; b=2`."""
_KEY_LIKE = re.compile(r"[\d_+/=-]")  # but "duplicate key value" and "pkey / DETAIL:" stay
_LEAST_VALUE_CHARS = 4
_PLAIN_WORDS = frozenset(
    {
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "had",
        "not",
        "for",
        "of",
        "and",
        "or",
        "in",
        "to",
        "from",
        "with",
        "by",
        "at",
        "on",
        "the",
        "a",
        "an",
        "must",
        "may",
        "can",
        "cannot",
        "does",
        "do",
        "did",
        "will",
        "supplied",
        "expired",
        "missing",
        "invalid",
        "required",
        "failed",
        "found",
        "rejected",
        "denied",
        "refused",
        "mismatch",
        "authentication",
        "error",
        "empty",
        "revoked",
        "unknown",
        "wrong",
        "provided",
        "given",
    }
)
"""Words after a name that are no value."""


def _mask_values(text: str) -> str:
    """Without the values that stand after a name such as `token`. Each name is looked at as a
    whole, and once."""
    parts: list[str] = []
    kept = place = 0
    while (name := _NAME.search(text, place)) is not None:
        place = name.end()
        value = _value_of(text, name)
        if value is not None:
            parts += [text[kept : value[0]], _MASK]
            kept = place = value[1]

    return "".join([*parts, text[kept:]])


def _value_of(text: str, name: re.Match[str]) -> tuple[int, int] | None:
    """Return where the value of a name begins and ends; None where it is no name of a secret."""
    if name[0] in _HARMLESS:
        return None

    certain = _CERTAIN.search(name[0]) is not None
    if not certain and _LIKELY.search(name[0]) is None:
        return None

    value = _ASSIGNED.match(text, name.end())
    if value is not None:
        if _is_said(text, name, value["value"]):
            return None
        more = _MORE_HEADER_PARTS.match(text, value.end()) if _HEADER.search(name[0]) else None
        return value.start("value"), more.end() if more is not None else value.end("value")

    value = _FOLLOWING.match(text, name.end())
    if value is None or not _is_value(name[0], value["value"], value["is"] is None and certain):
        return None

    return None if _is_object(text, name, value) else value.span("value")


def _is_said(text: str, name: re.Match[str], value: str) -> bool:
    """Return whether what is assigned to a name tells how many there are, or that there is none, or
    is what a service says."""
    bare = value.strip(_AROUND)
    if bare.lower() in _NOTHING:
        return True
    if _COUNT.fullmatch(bare) is not None and _COUNTED.search(name[0]) is not None:
        return True
    return (
        text.startswith(": ", name.end())
        and _SERVICE.search(name[0]) is not None
        and name[0].islower()
    )


def _is_object(text: str, name: re.Match[str], value: re.Match[str]) -> bool:
    """Return whether Kubernetes speaks of an object of kind Secret, whose name follows."""
    if name[0].lower() not in ("secret", "secrets"):
        return False
    if (
        _OBJECT.fullmatch(value["value"]) is not None
        and _STATE.match(text, value.end()) is not None
    ):
        return True
    return (
        text.startswith("in ", max(0, name.start() - 3))
        and _PLACED.fullmatch(value["value"]) is not None
    )


def _is_value(name: str, value: str, certain: bool) -> bool:
    """Return whether what follows a name without a sign between is its value."""
    if name.startswith("--"):
        return not value.startswith("-")
    if certain and _FOLLOWED.search(name) is not None:
        return value.lower().strip(".,;:!()") not in _PLAIN_WORDS
    return len(value) >= _LEAST_VALUE_CHARS and _KEY_LIKE.search(value) is not None


# --- tokens and long words

_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:gh[opusr]_|github_pat_|gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat)-|[rsp]k_(?:live|test)_|whsec_|pypi-Ag|xox[a-z]-|xapp-"
    r"|hv[sb]\.|dop_v1_|sb_(?:secret|publishable)_|sbp_|sntry[a-z]_|ya29\.|GOCSPX-|SG\.|shp(?:at|ss|ca|pa)_|glsa_|glc_"
    r"|lin_api_|dp\.[a-z]{2}\.|ph[cx]_|PMAK-|vercel_blob_rw_|AIza|(?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ABIA|ACCA)(?=[A-Z0-9]{12}))"
    r"[\w.+/=~-]{10,}+"
    r"|(?:sk-(?:proj|ant|svcacct|admin|or|lf)-|sk-(?=[A-Za-z0-9_-]{16})|npm_(?=[A-Za-z0-9]{30})|hf_(?=[A-Za-z0-9]{20})"
    r"|(?:sdk|mob|api)-(?=[0-9a-f]{8}-)|eyJ(?=[\w-]{8}))[\w.+/=~-]++"
    r"|(?:bot)?\d{6,12}:(?=[\w-]{30})[\w-]++)"
)
_WORD = re.compile(r"(?<![\w.+/=@~-])[\w.+/=@~-]{16,}+")
"""What may hold a long word, from its beginning to its end."""
_LONG = re.compile(
    r"(?<![\w/.@-])(?=[A-Za-z_-]*+\d)(?=[\d_-]*+[A-Za-z])[A-Za-z0-9_+=-]{20,}+(?:\.[A-Za-z0-9_+=-]{10,}+)*+",
    re.ASCII,
)
_SEGMENT = re.compile(r"(?<=[/.@])[A-Za-z0-9_+=~-]{16,}+", re.ASCII)
_AWS = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/])")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_DIGEST = re.compile(r"[0-9a-f]{32,128}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST_MARK = re.compile(r"sha(?:1|224|256|384|512)[:@/-]\Z", re.IGNORECASE)
_COMMIT_TAG = re.compile(r"(?:sha|git|commit|rev)-")
_COMMIT_MARK = re.compile(
    r"\b(?:commit|revision|rev|sha|head|ref|checkout|parent)\W{1,3}\Z", re.IGNORECASE
)
_PARTS = re.compile(r"[A-Za-z0-9]{10,}")
_CHARS_BEFORE_WORD = 80
"""Characters before a word that may tell what it is."""
_LABEL = re.compile(r"[a-z]{2,20}(?:-[a-z0-9]{1,20})++")
_HASHED = re.compile(r"[0-9a-f]{1,10}|[bcdfghjklmnpqrstvwxz2456789]{1,10}|[a-z]{2,20}[0-9]{1,3}")
"""What stands in a name beside words: a number, a hash of Kubernetes or of a Git commit, a word
with a number."""
_MOST_HASH_CHARS = 15
"""Characters of those: the hash of a template and that of a pod."""


def _mask_words(text: str) -> str:
    return _WORD.sub(_mask_word, text)


def _mask_word(word: re.Match[str]) -> str:
    """Return a run of characters without the words in it that look like keys; `word` tells also
    what stands before it."""
    before = word.string[max(0, word.start() - _CHARS_BEFORE_WORD) : word.start()]
    text = _AWS.sub(lambda found: _MASK if _is_mixed(found[0]) else found[0], word[0])
    text = _LONG.sub(
        lambda found: (
            found[0] if _is_known(before + found.string[: found.start()], found[0]) else _MASK
        ),
        text,
    )

    return _SEGMENT.sub(lambda found: _MASK if _is_random(found[0]) else found[0], text)


def _is_known(before: str, word: str) -> bool:
    """Return whether it is something that people look for, and no secret: a digest, a commit, a
    UUID."""
    name, sign, value = word.rpartition("=")
    if sign:
        return _is_known(before + name + sign, value)
    if _UUID.fullmatch(word.removeprefix("pvc-")) or _is_name(word):
        return True

    commit = word[tag.end() :] if (tag := _COMMIT_TAG.match(word)) is not None else word
    if _COMMIT.fullmatch(commit) and (_COMMIT_MARK.search(before[-16:]) or _is_image(before)):
        return True
    return _DIGEST.fullmatch(word) is not None and _DIGEST_MARK.search(before[-16:]) is not None


def _is_name(word: str) -> bool:
    """Return whether a word is made as names of objects in a cluster are: words, and few hashes and
    numbers after them."""
    if _LABEL.fullmatch(word) is None:
        return False

    hashed = returns = 0
    was_word = True
    for part in word.split("-"):
        is_word = part.isalpha()
        if not is_word and _HASHED.fullmatch(part) is None:
            return False
        hashed += 0 if is_word else len(part)
        returns += is_word and not was_word
        was_word = is_word

    return hashed <= _MOST_HASH_CHARS and returns <= 1


def _is_image(before: str) -> bool:
    """Return whether a text ends with the name of an image and a colon:
    `registry.example.com/shop:`."""
    name = before.rpartition(" ")[2]
    registry, sign, rest = name.partition("/")
    return bool(sign) and "." in registry and rest.endswith(":") and rest.count(":") == 1


def _is_mixed(word: str) -> bool:
    """Return whether a word of 40 letters, digits, `+` and `/` looks like a secret key of AWS, and
    not like a path."""
    return (
        sum(map(str.isupper, word)) > 5
        and sum(map(str.islower, word)) > 5
        and any(map(str.isdigit, word))
    ) and _count_kind_changes(word) * 3 >= len(word)


def _is_random(word: str) -> bool:
    """Return whether a part of a path looks like a key: letters of both kinds and digits, in no
    order that a name would have."""
    kinds = any(map(str.isupper, word)), any(map(str.islower, word)), any(map(str.isdigit, word))
    digits, turns = sum(map(str.isdigit, word)), _count_kind_changes(word)
    # `ServerSideProps2` has few digits.
    many = turns * 3 >= len(word) and (digits > 2 or turns * 2 >= len(word))
    return all(kinds) and many and not _UUID.fullmatch(word)


def _count_kind_changes(word: str) -> int:
    """Return how often two neighbours are of different kinds: upper case, lower case, digit, sign."""
    kinds = [
        0 if char.isupper() else 1 if char.islower() else 2 if char.isdigit() else 3
        for char in word
    ]
    return sum(one != other for one, other in itertools.pairwise(kinds))
