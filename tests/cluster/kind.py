from __future__ import annotations
from typing import Any, ClassVar
from tests.cluster.cluster import Cluster


class KindCluster(Cluster):
    flavor: ClassVar[str] = "kind"

    @classmethod
    def refusal(cls) -> str | None:
        return "no docker"
