"""What the hard tests stand on: a proxy that can kill, a world that answers, and an oracle that
trusts nobody.

    operator --HTTP--> proxy --HTTPS--> kube-apiserver <-- controller manager (real), kubelet (ours), test
        |                                    |
        +--HTTP--> stand-in for Prometheus   +--> audit log, watch recording --> oracle

The operator is a real process, started and killed as one. Everything of ours runs on one event loop
in a background thread (`loop.Background`), so that tests are plain functions and all times come
from one clock.
"""
