"""The secrets of all stand-ins: each is made anew for a run and must stand nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from tests.contract import world

_MARK = secrets.token_hex(6)


def _seed(name: str) -> str:
    return f"canary-{name}-{_MARK}-5eCr3t"


SEEDS: Mapping[str, str] = {
    "vercel": _seed("vercel"),
    "bypass": _seed("bypass"),
    "supabase": _seed("supabase"),
    "github": _seed("github"),
    "sentry": _seed("sentry"),
    "site": _seed("site"),
    "upstash": _seed("upstash"),
    "beta": _seed("beta"),
    "slack": world.TOKEN,
    "pagerduty": secrets.token_hex(16),
    "statuspage": _seed("statuspage"),
    "openai-old": _seed("openai-old"),
    "openai-new": _seed("openai-new"),
    "role-old": _seed("role-old"),
    "role-new": _seed("role-new"),
    "anon": _seed("anon"),
    "database": world.PASSWORD,
    "database-quoted": world.PASSWORD_QUOTED,
    "owner": _seed("owner"),
    "backups": _seed("backups"),
}
