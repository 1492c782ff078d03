"""What is in an image that was built, Debian's packages included, by syft; and whether that is what
was locked.

The bill of the checkout says what should be in the image. This one looks, and refuses an image
whose Gatewright or dependencies are others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from tests.supply import ROOT, SupplyError, locked
from tests.supply.sbom import IMAGE, REQUIREMENTS, SPEC, save

TARGET = ROOT / "dist" / "gatewright-image.cdx.json"
INSTALLED = "/opt/gatewright/"
"""Where the Dockerfile puts Gatewright and its dependencies; Python packages elsewhere are the
base's own."""
_SETTINGS = {"SYFT_FILE_METADATA_SELECTION": "none", "SYFT_CHECK_FOR_APP_UPDATE": "false"}
"""Packages, not each of their files."""


def write(image: str, target: Path = TARGET) -> str:
    """Write the bill of an image (`gatewright:dev`, `oci-archive:FILE`); returns what was done.

    The same image gives the same bytes. Raises SupplyError where it holds other packages than were
    locked."""
    bill = _scan(image)
    # They say when and as which copy this was written, not what is in the image.
    bill.pop("serialNumber", None)
    bill["metadata"].pop("timestamp", None)
    _compare(bill)
    save(bill, target)
    return f"{len(bill['components'])} components in {target.name}"


def _scan(image: str) -> dict[str, Any]:
    program = shutil.which("syft")
    if program is None:
        raise SupplyError(
            "syft is not installed: go install github.com/anchore/syft/cmd/syft@v1.52.0"
        )
    command = [program, "scan", "--quiet", f"--output=cyclonedx-json@{SPEC.to_version()}", image]
    done = subprocess.run(
        command, env=os.environ | _SETTINGS, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SupplyError(f"syft could not read {image}: {done.stderr.strip()[-500:]}")
    bill: dict[str, Any] = json.loads(done.stdout)
    return bill


def _compare(bill: dict[str, Any]) -> None:
    found = {
        (part["name"], part["version"]) for part in bill.get("components", []) if _is_ours(part)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {(project["name"], project["version"])} | {
        (requirement.name, str(requirement.specifier).removeprefix("=="))
        for requirement, _ in locked(REQUIREMENTS)
        if requirement.marker is None or requirement.marker.evaluate(IMAGE)
    }
    problems = [
        f"{name} {version} is locked and not in the image"
        for name, version in sorted(wanted - found)
    ]
    problems += [
        f"{name} {version} is in the image and not locked"
        for name, version in sorted(found - wanted)
    ]
    if problems:
        raise SupplyError("\n".join(problems))


def _is_ours(part: dict[str, Any]) -> bool:
    places = (
        item["value"] for item in part.get("properties", []) if item["name"].endswith(":path")
    )
    return part.get("purl", "").startswith("pkg:pypi/") and any(
        place.startswith(INSTALLED) for place in places
    )
