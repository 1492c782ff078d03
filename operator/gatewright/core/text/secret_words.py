"""What looks like a key by itself: the beginnings that vendors give their keys, and long words.

Of long words stay those that people look for: digests of images, commits, UUIDs, names of objects.
"""

from __future__ import annotations

import itertools
import re

MASK = "***"
"""What stands for a secret."""
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:gh[opusr]_|github_pat_|gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat)-"
    r"|[rsp]k_(?:live|test)_|whsec_|pypi-Ag|xox[a-z]-|xapp-"
    r"|hv[sb]\.|dop_v1_|sb_(?:secret|publishable)_|sbp_|sntry[a-z]_|ya29\.|GOCSPX-|SG\."
    r"|shp(?:at|ss|ca|pa)_|glsa_|glc_"
    r"|lin_api_|dp\.[a-z]{2}\.|ph[cx]_|PMAK-|vercel_blob_rw_|AIza"
    r"|(?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ABIA|ACCA)(?=[A-Z0-9]{12}))"
    r"[\w.+/=~-]{10,}+"
    r"|(?:sk-(?:proj|ant|svcacct|admin|or|lf)-|sk-(?=[A-Za-z0-9_-]{16})"
    r"|npm_(?=[A-Za-z0-9]{30})|hf_(?=[A-Za-z0-9]{20})"
    r"|(?:sdk|mob|api)-(?=[0-9a-f]{8}-)|eyJ(?=[\w-]{8}))[\w.+/=~-]++"
    r"|(?:bot)?\d{6,12}:(?=[\w-]{30})[\w-]++)"
)
_WORD = re.compile(r"(?<![\w.+/=@~-])[\w.+/=@~-]{16,}+")
"""What may hold a long word, from its beginning to its end."""
_LONG = re.compile(
    r"(?<![\w/.@-])(?=[A-Za-z_-]*+\d)(?=[\d_-]*+[A-Za-z])"
    r"[A-Za-z0-9_+=-]{20,}+(?:\.[A-Za-z0-9_+=-]{10,}+)*+",
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


def mask_tokens(text: str) -> str:
    """Return a text without what begins as the keys of well-known vendors do."""
    return _TOKEN.sub(MASK, text)


def mask_words(text: str) -> str:
    """Return a text without long words that look like keys."""
    return _WORD.sub(_mask_word, text)


def has_random_part(text: str) -> bool:
    """Return whether a word in a short text looks like a key."""
    return any(_is_random(part) for part in _PARTS.findall(text))


def _mask_word(word: re.Match[str]) -> str:
    """Return a run of characters without the words in it that look like keys.

    `word` tells also what stands before it.
    """
    before = word.string[max(0, word.start() - _CHARS_BEFORE_WORD) : word.start()]

    def mask_unless_known(long_word: re.Match[str]) -> str:
        before_it = before + long_word.string[: long_word.start()]
        return long_word[0] if _is_known(before_it, long_word[0]) else MASK

    masked = _AWS.sub(lambda key: MASK if _is_mixed(key[0]) else key[0], word[0])
    masked = _LONG.sub(mask_unless_known, masked)
    return _SEGMENT.sub(lambda part: MASK if _is_random(part[0]) else part[0], masked)


def _is_known(before: str, word: str) -> bool:
    """Return whether a word is what people look for, and no secret: a digest, a commit, a UUID."""
    name, sign, value = word.rpartition("=")
    if sign:
        return _is_known(before + name + sign, value)

    if _UUID.fullmatch(word.removeprefix("pvc-")) or _is_name(word):
        return True

    # Forty hexadecimal digits may be a key: what stands before them tells that they are a commit.
    tag = _COMMIT_TAG.match(word)
    commit = word[tag.end() :] if tag is not None else word
    if _COMMIT.fullmatch(commit) and (_COMMIT_MARK.search(before[-16:]) or _is_image(before)):
        return True
    return _DIGEST.fullmatch(word) is not None and _DIGEST_MARK.search(before[-16:]) is not None


def _is_name(word: str) -> bool:
    """Return whether a word is made as names of objects in a cluster are.

    Words, and few hashes and numbers after them.
    """
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
    """Return whether a text ends as `registry.example.com/shop:` does, before a tag."""
    name = before.rpartition(" ")[2]
    registry, sign, rest = name.partition("/")
    return bool(sign) and "." in registry and rest.endswith(":") and rest.count(":") == 1


def _is_mixed(word: str) -> bool:
    """Return whether a word looks like a secret key of AWS, and not like a path.

    It has 40 letters, digits, `+` and `/`.
    """
    upper, lower, digits = _count_kinds(word)
    has_all = upper > 5 and lower > 5 and digits > 0
    return has_all and _count_kind_changes(word) * 3 >= len(word)


def _is_random(word: str) -> bool:
    """Return whether a part of a path looks like a key.

    It has letters of both kinds and digits, in no order that a name would have.
    """
    upper, lower, digits = _count_kinds(word)
    changes = _count_kind_changes(word)

    # `ServerSideProps2` has few digits.
    is_mixed = changes * 3 >= len(word) and (digits > 2 or changes * 2 >= len(word))
    return bool(upper and lower and digits) and is_mixed and not _UUID.fullmatch(word)


def _count_kinds(word: str) -> tuple[int, int, int]:
    """Return how many upper case letters, lower case letters and digits there are."""
    upper, lower = sum(map(str.isupper, word)), sum(map(str.islower, word))
    return upper, lower, sum(map(str.isdigit, word))


def _count_kind_changes(word: str) -> int:
    """Return how often two neighbours are of different kinds."""
    kinds = [_kind_of(char) for char in word]
    return sum(kind != other for kind, other in itertools.pairwise(kinds))


def _kind_of(char: str) -> str:
    if char.isupper():
        return "upper"
    if char.islower():
        return "lower"
    return "digit" if char.isdigit() else "sign"
