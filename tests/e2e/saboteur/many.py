"""Many draws beside each other: each mostly waits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.cluster import Cluster
from tests.e2e import installing
from tests.e2e.saboteur import ground as grounds
from tests.e2e.saboteur.draws import draw
from tests.e2e.saboteur.ground import Ground
from tests.e2e.saboteur.site import Report, Site, judge_requests
from tests.harness.loop import Background

BESIDE = 12


@contextlib.contextmanager
def made_ready(cluster: Cluster) -> Iterator[Ground]:
    """The operator of this checkout on the cluster, the images, and everything that watches. All of
    it ends."""
    installing.image(cluster)
    grounds.images(cluster)
    installing.by_kustomize(cluster)
    with Background() as background:
        ground = Ground(cluster, background)
        try:
            ground.clear()
            yield ground
        finally:
            ground.clear()
            ground.close()


def play(
    ground: Ground, seeds: Sequence[int], told: Callable[[Report], None], beside: int = BESIDE
) -> list[Report]:
    """Play these draws, and judge them; each is told when it is over, and again where the audit log
    has more to say."""
    sites = [Site(ground, draw(seed), f"saboteur-{seed}") for seed in seeds]
    reports: list[Report] = []
    with ThreadPoolExecutor(beside, thread_name_prefix="draw") as pool:
        for done in as_completed([pool.submit(site.play) for site in sites]):
            reports.append(done.result())
            told(reports[-1])
    requests = ground.requests()
    for report in reports:
        before = len(report.violations)
        judge_requests(report, requests.get(report.namespace, []))
        if len(report.violations) > before:
            told(report)
    return sorted(reports, key=lambda report: seeds.index(report.draw.seed))
