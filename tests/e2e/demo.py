"""`make demo`: set up everything, run the main job, say how it ended. Exit 0 only if every ending
is the expected one."""

from __future__ import annotations

import sys
import time

from tests.cluster.paths import Unavailable
from tests.e2e import main_job
from tests.e2e.foco import install as foco
from tests.e2e.watching import Screen


def main() -> int:
    """Run the demonstration."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f}s] {text}", flush=True)

    try:
        say(
            "a throwaway cluster (the first one on a machine is built from source: about a "
            "quarter of an hour)"
        )
        cluster = main_job.make_cluster()
    except Unavailable as reason:
        print(f"no cluster can be had here: {reason}", file=sys.stderr)
        return 2
    say(f"ready: the cluster ({cluster.flavor})")
    main_job.set_up(cluster, say)
    endings = []
    for play in (main_job.good, main_job.bad, main_job.half):
        say((play.__doc__ or "").strip())
        endings.append(play(cluster, Screen()))
    print("\n$ kubectl get releases --namespace production")
    print(cluster.kubectl("get", "releases", "--namespace", main_job.NAMESPACE))
    for ending in endings:
        mark = "as expected" if not ending.wrong else "NOT AS EXPECTED"
        print(
            f"{ending.version}: {ending.outcome} after {ending.seconds:.0f}s, {mark}; "
            f"served then: {ending.served}"
        )
        print(f"       {ending.reason}")
        for wrong in ending.wrong:
            print(f"       wrong: {wrong}")
    print(f"served now: {foco.served_version(cluster, main_job.NAMESPACE)}")
    print(
        "the cluster stays for another look (make cluster-down ends it); "
        f"{time.monotonic() - started:.0f}s in all"
    )
    return 1 if any(ending.wrong for ending in endings) else 0


if __name__ == "__main__":
    sys.exit(main())
