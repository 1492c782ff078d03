"""Known vulnerabilities of everything that is locked, by pip-audit.

An audit that finds nothing looks like one that asked nobody. So the source is first asked about a
version whose vulnerability everybody knows: one that does not know it is no source, and the audit
fails. What could not be audited fails it, too; without --strict pip-audit would pass over that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.supply import ROOT, SupplyError, locked

OPERATOR = ROOT / "requirements" / "operator.txt"
DEVELOPERS = ROOT / "requirements" / "dev.txt"
KNOWN = ("django", "2.2.1")
"""CVE-2019-12308, known since June 2019; of a package that is not locked, since pip-audit takes one
version of each."""

ACCEPTED: Mapping[str, str] = {}
"""Advisories that do not concern Gatewright: the id, and why that is so."""


def audit(
    files: Sequence[Path] = (OPERATOR, DEVELOPERS),
    osv_url: str | None = None,
    accepted: Mapping[str, str] = ACCEPTED,
) -> str:
    """Audit lock files; returns what was audited. Raises SupplyError for a vulnerability, and for
    whatever was not audited.

    `osv_url`: the query of another service that speaks OSV; else that of osv.dev."""
    packages = _without_known(_ask(files, osv_url))
    _refuse_gaps(files, packages)

    problems, found = [], set[str]()
    for package in packages:
        for hole in package["vulns"]:
            names = {hole["id"], *hole["aliases"]}
            found |= names
            if not names & accepted.keys():
                problems.append(_said(package, hole, names))

    problems += [
        f"{name} is accepted, and found no more: take it out" for name in accepted.keys() - found
    ]
    if problems:
        raise SupplyError("\n".join(sorted(problems)))
    return (
        f"{len(packages)} packages of {', '.join(path.name for path in files)}: no known "
        "vulnerability"
    )


def _ask(files: Sequence[Path], osv_url: str | None) -> list[dict[str, Any]]:
    """What pip-audit says of each package, the known one included: `{name, version, vulns: [{id,
    aliases, fix_versions}]}`."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--strict",
        "--disable-pip",
        "--progress-spinner=off",
        "--format=json",
    ]
    command += ["--vulnerability-service=osv", *([f"--osv-url={osv_url}"] if osv_url else [])]
    with tempfile.TemporaryDirectory(prefix="gatewright-audit-") as directory:
        known = Path(directory, "known.txt")
        # Nothing is installed: the hash is there because pip-audit wants one beside each version.
        known.write_text(f"{'=='.join(KNOWN)} --hash=sha256:{'0' * 64}\n")
        command += [f"--requirement={path}" for path in (known, *files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip-audit said nothing"]
        raise SupplyError(f"nothing was audited: {reason[0]}") from None
    return packages


def _without_known(packages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The packages that were asked about. Raises SupplyError where the known vulnerability was not
    told."""
    others, told = [], False
    for package in packages:
        if (package["name"], package.get("version")) == KNOWN:
            told = bool(package["vulns"])
        else:
            others.append(package)
    if not told:
        name, version = KNOWN
        raise SupplyError(
            f"the source of advisories knows of none for {name} {version}, which has one: "
            "nothing was audited"
        )
    return others


def _refuse_gaps(files: Iterable[Path], packages: Iterable[Mapping[str, Any]]) -> None:
    """What is locked for this platform must have been audited in exactly that version."""
    wanted = {
        (requirement.name, str(requirement.specifier).removeprefix("=="))
        for path in files
        for requirement, _ in locked(path)
        if requirement.marker is None or requirement.marker.evaluate()
    }
    missing = wanted - {(package["name"], package.get("version")) for package in packages}
    if missing:
        raise SupplyError(
            f"not audited: {', '.join(f'{name} {version}' for name, version in sorted(missing))}"
        )


def _said(package: Mapping[str, Any], hole: Mapping[str, Any], names: Iterable[str]) -> str:
    fixed = (
        f"fixed in {', '.join(hole['fix_versions'])}" if hole["fix_versions"] else "not fixed yet"
    )
    shipped = package["name"] in {requirement.name for requirement, _ in locked(OPERATOR)}
    where = "in the image" if shipped else "developers only"
    return f"{package['name']} {package['version']} ({where}): {', '.join(sorted(names))}, {fixed}"
