"""What the image is made of: whether it is known to be broken, a list of it, and the base it stands
on.

    python -m tests.supply audit       known vulnerabilities of what requirements/ locks
    python -m tests.supply sbom        dist/gatewright.cdx.json, what is in the image; with --image also the base's packages
    python -m tests.supply pin-base    the newest digest of the base image, into the Dockerfile

`sbom` reads this checkout alone, `pin-base` asks the image's registry, `audit` asks the database of
advisories. Where these do not answer, the command fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


class SupplyError(RuntimeError):
    """Why a command could not do what it was asked for, and what to do."""


def locked(path: Path) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement of a lock file, and the names of the packages that asked for it (`via`)."""
    for entry in re.split(r"^(?=[a-z0-9])", path.read_text(), flags=re.MULTILINE)[1:]:
        requirement, *rest = entry.splitlines()
        comments = " ".join(line.strip(" #") for line in rest if line.lstrip().startswith("#"))
        via = [
            word
            for word in comments.removeprefix("via").split()
            if re.fullmatch(r"[a-z0-9-]+", word)
        ]
        yield Requirement(requirement.removesuffix("\\").strip()), via
