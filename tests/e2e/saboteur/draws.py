"""A seed is a draw: where in the run something is done, what, and what kind of release it is.

The order of the tables below decides what a seed means: whoever adds to them gives old seeds
another meaning, and chooses the seeds of CHOSEN anew.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

STAGES = ("migrate", "web", "store", "flags", "finish")
PHASES = (
    *(f"start-{number}" for number in range(1, 6)),
    *(f"bake-{number}" for number in range(1, 6)),
    "Guarding", "RollingBack", "Promoted", "RolledBack",
)  # fmt: skip
"""Where in the run the act begins."""
AT_REST = ("Promoted", "RolledBack")
"""After a run that has ended so."""
ACTS = (
    "undo",
    "set-image",
    "recreate",
    "scale",
    "sidecar",
    "resources",
    "delete-configmap",
    "edit-configmap",
    "flip-flag",
    "rotate-secret",
    "quota",
    "cordon",
    "kill-pod",
    "kill-operator",
    "gate-fails",
    "gate-silent",
    "delete-namespace",
)
OLD, NEW = "1.0", "2.0"
BROKEN, HALF, LATE, HOTFIX = "2.0-broken", "2.0-half", "2.0-late", "3.0"
"""Its pods crash at once; only those of the StatefulSet do; all do, some seconds after they were
ready; an image that neither version has."""
VERSIONS = (OLD, NEW, BROKEN, HALF, LATE, HOTFIX)
ON_TEMPLATES = frozenset({"undo", "set-image", "recreate", "sidecar", "resources"})
"""Acts after which a pod template may be another one than any that the operator has written."""
CHOSEN = (99, 354, 57, 74, 17, 18, 394, 13, 96, 11, 27, 118, 25, 28, 10, 5, 6)
"""Seeds of the short list: each act once, each phase at least once, the long ones first."""

_REACHED = {BROKEN: (*PHASES[:2], "bake-1"), HALF: (*PHASES[:3], "bake-1", "bake-2")}
_REACHED[LATE] = _REACHED[HALF]
"""How far a version gets that cannot start."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One act at one moment of one run."""

    seed: int
    phase: str
    act: str
    workload: str
    """What the act is done to, where it is done to a workload: `web` or `store`."""
    image: str
    """Version that `set-image` sets."""
    version: str
    """What the run brings."""
    breach: bool
    """Whether the gate fails after the act; before it where the phase is that of a rollback of a
    version that starts."""
    breach_in: int
    """Number of the stage in whose bake it fails, where it fails before the act."""

    def __str__(self) -> str:
        how = {BROKEN: "crashes", HALF: "crashes as a StatefulSet", LATE: "crashes later"}.get(
            self.version, "starts"
        )
        gate = "the gate fails later" if self.breach else "the gate stays good"
        if self.phase in ("RollingBack", "RolledBack") and self.breach:
            gate = f"the gate fails in the bake of stage {self.breach_in}"
        what = {"set-image": f" to {self.image}"}.get(self.act, "")
        where = f" of {self.workload}" if self.act in (*ON_TEMPLATES, "scale", "kill-pod") else ""
        return (
            f"seed {self.seed}: {self.act}{where}{what} at {self.phase}; {self.version} {how}, "
            f"{gate}"
        )


def draw(seed: int) -> Draw:
    """What a seed means."""
    chance = random.Random(seed)
    phase, act = chance.choice(PHASES), chance.choice(ACTS)
    workload, image = chance.choice(("web", "store")), chance.choice((HOTFIX, OLD, BROKEN))
    breach, stage, kind = chance.random() < 0.5, chance.randint(2, 5), chance.random()
    version = HALF if kind < 0.14 else BROKEN if kind < 0.22 else LATE if kind < 0.3 else NEW
    if phase in ("RollingBack", "RolledBack"):
        breach = version == NEW
    elif version != NEW and phase not in _REACHED[version]:
        version = NEW
    if (
        phase == "Promoted"
        or act in ("gate-fails", "gate-silent", "delete-namespace")
        or version != NEW
    ):
        breach = breach and phase in ("RollingBack", "RolledBack")
    return Draw(seed, phase, act, workload, image, version, breach, stage)
