"""`plan`: what a run would do; nothing is touched."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gatewright.plugin.exit_codes import DONE, FAILED
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.options import add_connection, add_output, connect_cluster, require_subject
from gatewright.plugin.output import print_answer, yaml_text
from gatewright.plugin.runbooks import find_in, with_runbook
from gatewright.plugin.show import clean_text, object_name
from gatewright.plugin.terminal import print_lines

if TYPE_CHECKING:
    from gatewright.api.release import ReleaseSpec
    from gatewright.plugin.cluster import Cluster

_REVISIONS = "/apis/apps/v1/namespaces/{}/controllerrevisions/{}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("name", nargs="?", help="name of the Release")
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        metavar="FILE",
        help="the Release of a file (- for the standard input): without a name nothing is asked of "
        "a cluster; with one, what its edit would mean for the Release that is there. More files "
        "may have its Runbook",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="print the spec as a run would read it: defaults and variables put in",
    )
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Print the plan; 1 where the spec is refused. Raises RequestFailed."""
    release, cluster = _release_of(options)

    from gatewright.plugin.plan import make_plan, plan_lines, resolved_spec
    from gatewright.plugin.specs import pin_next
    from gatewright.providers.validate import check_spec

    spec, messages = check_spec(release.get("spec"))
    problems = [*messages]
    if spec is None or problems:
        nothing = "nothing would run; the spec is refused:"
        print_lines([nothing, *(f"  {clean_text(line)}" for line in problems)], sys.stderr)
        return FAILED

    body = pin_next(spec, release.get("status") or {})
    if options.show:
        shown = resolved_spec(body)
        print_answer(options.output, shown, [object_name(release)], lambda: [yaml_text(shown)])
        return DONE

    start = _start(cluster, release, spec)
    changes = _changes(cluster, release) if cluster is not None else None
    plan = make_plan(release, body, start, changes, options.output == "wide")
    print_answer(options.output, plan, [object_name(release)], lambda: plan_lines(plan))
    return DONE


def _release_of(options: argparse.Namespace) -> tuple[dict[str, Any], Cluster | None]:
    """Return the Release as it would be, and the cluster that was asked for it, if one was."""
    if options.filename and not options.name:
        from gatewright.plugin.files import read_release

        return read_release(options.filename), None
    require_subject(options)

    cluster = connect_cluster(options)
    release = cluster.get_release(options.name)
    if options.filename:
        from gatewright.plugin.files import read_release

        edited = read_release(options.filename, options.name, find_in(cluster))
        release = release | {"spec": edited["spec"]}
    else:
        release = with_runbook(release, find_in(cluster))
    return release, cluster


def _start(cluster: Cluster | None, release: dict[str, Any], spec: ReleaseSpec) -> dict[str, Any]:
    """Return when the run may start. Raises RequestFailed."""
    from gatewright.plugin.start import NOT_ASKED, fetch_freezes, make_start

    now = datetime.now(UTC)
    known = fetch_freezes(cluster, now) if cluster is not None else NOT_ASKED
    return make_start(spec, release, known, now)


def _changes(cluster: Cluster, release: dict[str, Any]) -> dict[str, Any] | None:
    """Return what has changed since the version that was promoted last."""
    from gatewright.core.spec.edits import describe_edits
    from gatewright.core.spec.pinned_spec import unpin_spec
    from gatewright.plugin.specs import read_spec

    promoted = _last_promoted(release.get("status") or {})
    if promoted is None:
        return None
    since = {"since": promoted["version"], "run": promoted["id"]}
    if not promoted.get("revision"):
        return since | {"unknown": f"what run {promoted['id']} pinned is not kept any more"}

    try:
        kept = cluster.get(_REVISIONS.format(cluster.namespace, promoted["revision"]))
        before = unpin_spec(kept["data"]["body"]).spec
    except RequestFailed as error:
        if error.code not in (403, 404):
            raise
        return since | {"unknown": str(error)}
    except (KeyError, TypeError, ValueError):
        return since | {"unknown": f"what run {promoted['id']} pinned cannot be read"}

    edits = describe_edits(before, read_spec(release))
    return since | {"edits": [edit for edit in edits if edit != "version changed"]}


def _last_promoted(status: dict[str, Any]) -> dict[str, Any] | None:
    """Return the latest run that was promoted and not undone since."""
    undone: set[int] = set()
    for past in status.get("history") or ():
        if past["outcome"] == "RolledBack":
            undone.update(past.get("undoes") or ())
        if past["outcome"] == "Promoted" and past["id"] not in undone:
            return dict(past)
    return None
