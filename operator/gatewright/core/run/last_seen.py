"""What each target was last seen to be, where nobody vouches for it: a rollback has failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gatewright.api.status import Run, Served, Undo
from gatewright.core.run.context import Context
from gatewright.core.run.run_end import UNVERIFIED_CAVEAT, known_live
from gatewright.core.subject import name_of_subject, traits_of

MOST_VERSION_CHARS = 320
MOST_CAVEAT_CHARS = 1000


def last_seen(ctx: Context) -> Served | None:
    """Return what the targets were last seen to be; None where nobody has seen any of them.

    A target that was returned was seen to be what its snapshot says. What the run has not touched
    is as it was.
    """
    lines = [line for line in _undo_lines(ctx.run) if _restores_target(line)]
    if not lines:
        return _live_before(ctx)

    seen = dict(_versions_seen(ctx, lines))
    if not any(seen.values()):
        return None

    caveat = UNVERIFIED_CAVEAT + _describe_seen(seen)
    return Served(
        version=_version_of_all(seen)[:MOST_VERSION_CHARS], caveat=caveat[:MOST_CAVEAT_CHARS]
    )


def _live_before(ctx: Context) -> Served | None:
    """Return what was live before a run that has touched no target."""
    live = known_live(ctx.status)
    # Nothing was known before either, but perhaps seen.
    if live is None:
        return ctx.status.live
    # It has said so itself, of Jobs alone.
    if live.version in ("", ctx.run.version):
        return None

    caveat = f"{UNVERIFIED_CAVEAT}{live.version} was live before, and no target was touched"
    return Served(version=live.version, caveat=caveat)


def _undo_lines(run: Run) -> list[Undo]:
    return run.rollback.undo if run.rollback is not None else []


def _restores_target(line: Undo) -> bool:
    return line.kind == "Restore" and traits_of(line.subject).versioned


def _versions_seen(ctx: Context, lines: list[Undo]) -> Iterator[tuple[str, str]]:
    """Yield each target that goes back and its version; empty where that is not known."""
    good = ctx.status.lastGood
    returned = ctx.run.found or (good.version if good is not None else "")

    for line in lines:
        name = name_of_subject(line.subject)
        standing = ctx.seen.standings.get(line.subject)
        if standing is not None:
            # What is there now counts, also where others have changed it since.
            yield name, "" if standing.unknown else standing.version or ""
        else:
            yield name, returned if line.state == "Succeeded" else ""


def _version_of_all(seen: Mapping[str, str]) -> str:
    """Return the version that all have; else each target with its own."""
    versions = set(seen.values())
    if len(versions) == 1:
        return versions.pop()
    return ", ".join(f"{name} {version or 'unknown'}" for name, version in sorted(seen.items()))


def _describe_seen(seen: Mapping[str, str]) -> str:
    known = [f"{name} was last seen as {version}" for name, version in seen.items() if version]
    unknown = [name for name, version in seen.items() if not version]
    if unknown:
        known.append(f"nobody can tell what {', '.join(unknown)} is")
    return "; ".join(known)
