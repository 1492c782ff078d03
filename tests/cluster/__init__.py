"""A throwaway Kubernetes for `make demo` and `make test`, from pinned sources, with nothing left
behind.

    python -m tests.cluster --help

`ApiServer` is etcd and kube-apiserver alone, for tests of the API (seconds to start, no root
needed). `Cluster` is a whole one with real pods: kind where a Docker engine answers, else native
processes of root's.
"""

from tests.cluster.apiserver import ApiServer
from tests.cluster.cluster import Cluster
from tests.cluster.paths import Unavailable

__all__ = ["ApiServer", "Cluster", "Unavailable"]
