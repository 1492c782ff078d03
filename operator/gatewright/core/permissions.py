"""What authors of Releases must be allowed by themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuthorPermission:
    """What the author of a Release must be allowed, because the operator does it for them;
    admission asks RBAC for it."""

    verb: str
    group: str
    resource: str
    fields: tuple[str, ...] = ()
    """Where the configuration names the object, as `name` or `config[].secret`; none: it is asked
    for without a name."""
    only: tuple[str, str] | None = None
    """Only where this field has this value."""
    spared: tuple[str, ...] = ()
    """Names that need no right."""
    implied: bool = False
    """A name that is left out stands for an object all the same: it is asked for without a name."""
