"""What a list of providers in the tests leaves out, and what to write there."""

from __future__ import annotations

from collections.abc import Collection


def assert_all_listed(
    listed: Collection[str], wanted: Collection[str], where: str, what: str
) -> None:
    """Fail with the words of a remedy: which key to add to a list or to take out of it, where that
    list is, and what stands there for each key."""
    missing, unknown = sorted({*wanted} - {*listed}), sorted({*listed} - {*wanted})
    remedies = [f"add {_row(missing)} to {where}: {what}"] if missing else []
    remedies += [f"take {_row(unknown)} out of {where}: not asked for here"] if unknown else []
    assert not remedies, "; ".join(remedies)


def _row(keys: Collection[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
