"""What is in the image, as CycloneDX has it: Gatewright, what requirements/operator.txt locks, and
the base by its digest.

cyclonedx-py reads the lock file. Added here are the base, who needs what, and that a package for
another platform is locked but not in the image. What is in the base, `image` tells of an image that
was built. The same checkout gives the same bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

from tests.supply import ROOT, SupplyError, locked
from tests.supply.base import Base, pinned

TARGET = ROOT / "dist" / "gatewright.cdx.json"
REQUIREMENTS = ROOT / "requirements" / "operator.txt"
SPEC = SchemaVersion.V1_6
IMAGE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.0",
    "python_version": "3.11",
    "sys_platform": "linux",
}
"""What markers are judged by, whatever this runs on."""
_ROOT, _BASE = "root-component", "base"


def write(target: Path = TARGET) -> str:
    """Write the bill of materials; returns what was done. Raises SupplyError where it is not as the
    schema wants it."""
    bill = _of_requirements()
    _complete(bill)
    save(bill, target)
    return f"{len(bill['components'])} components in {target.name}"


def save(bill: dict[str, Any], target: Path) -> None:
    """Write a bill of materials. Raises SupplyError where it is not as the schema wants it."""
    text = json.dumps(bill, indent=1, sort_keys=True) + "\n"
    if (error := JsonStrictValidator(SPEC).validate_str(text)) is not None:
        raise SupplyError(
            f"the bill of materials is not as CycloneDX {SPEC.to_version()} wants it: {error}"
        )

    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def _of_requirements() -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "requirements",
        "--output-reproducible",
        "--no-validate",
    ]
    command += [
        f"--spec-version={SPEC.to_version()}",
        f"--pyproject={ROOT / 'pyproject.toml'}",
        str(REQUIREMENTS),
    ]
    # With an epoch it would write a timestamp.
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SupplyError(f"cyclonedx-py failed: {done.stderr.strip()[-500:]}")
    bill: dict[str, Any] = json.loads(done.stdout)
    return bill


def scope(requirement: Requirement) -> str:
    """Whether the image has a locked package: some are locked for other platforms alone."""
    return (
        "required" if not requirement.marker or requirement.marker.evaluate(IMAGE) else "excluded"
    )


def _complete(bill: dict[str, Any]) -> None:
    parts = {part["name"]: part for part in bill["components"]}
    needed_by: dict[str, list[str]] = {}
    for requirement, via in locked(REQUIREMENTS):
        part = parts[requirement.name]
        part["bom-ref"] = part["purl"]
        part["scope"] = scope(requirement)
        # The line of the lock file, with all its hashes once more.
        del part["description"]
        needed_by[requirement.name] = via

    base = _container(pinned())
    bill["components"] = [base, *(parts[name] for name in sorted(parts))]
    needs: dict[str, list[str]] = {_ROOT: [_BASE], _BASE: []} | {
        part["purl"]: [] for part in parts.values()
    }
    for name, via in needed_by.items():
        for one in via:
            needs[_ROOT if one == "gatewright" else parts[one]["purl"]].append(parts[name]["purl"])
    bill["dependencies"] = [{"ref": ref, "dependsOn": sorted(needs[ref])} for ref in sorted(needs)]


def _container(base: Base) -> dict[str, Any]:
    short = base.name.rpartition("/")[2]
    place = {"repository_url": base.name, "tag": base.tag}
    return {
        "type": "container",
        "bom-ref": _BASE,
        "name": base.name,
        "version": base.tag,
        "hashes": [{"alg": "SHA-256", "content": base.digest.removeprefix("sha256:")}],
        "purl": PackageURL("oci", None, short, base.digest, place).to_string(),
    }
