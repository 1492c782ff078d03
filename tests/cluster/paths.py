"""Where the throwaway cluster keeps what it may keep: a cache outside the checkout, and the
checkout itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


class Unavailable(Exception):
    """This machine cannot do what was asked; the message says in plain words what is missing."""


def cache_dir() -> Path:
    """Directory of everything that is slow to make and safe to delete; never inside the
    checkout."""
    if explicit := os.environ.get("GATEWRIGHT_CACHE"):
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "gatewright"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the named lock between processes; the kernel drops it when the holder dies, so no lock
    is ever stale."""
    directory = cache_dir() / "locks"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
