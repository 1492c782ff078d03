"""The stand-in for foco.mx: a small task service, its database scripts, its smoke test and its
traffic.

One image holds all of it, and the tag decides which version is served: `APP_VERSION` is the only
thing in which `foco:2.3.1` and `foco:2.6.0` differ. What makes one version better or worse than
another is in two places: the migrations a version brings (`migrations/<version>/`), and the faults
a version has (`focomx.faults`).

    service     the web service (port 8080) and its admin port (8081)
    database    a small pool, and the workspace each transaction belongs to
    faults      what is wrong with a version, switchable while it runs
    flags       feature flags from a mounted ConfigMap, or from the environment
    orchestrator  backup | migrate | verify | rollback, as the runbook's script has them (migrations, backups, verify)
    store       where backups live, so that a later Job finds what an earlier one left
    smoke       the service over HTTP, as a user would use it
    loadgen     constant mixed traffic
"""
