"""Procedures on the command line: run one, follow it to its end, list what there are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from gatewright.api.release import Procedure, ReleaseSpec
from gatewright.api.status import OPEN_PROCEDURES, ReleaseStatus
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.procedures import find_procedure, sentence_to_repeat
from gatewright.plugin import acts
from gatewright.plugin.cluster import Cluster, RequestFailed
from gatewright.plugin.exit_codes import DONE, FAILED, LATE
from gatewright.plugin.show import Object, clean_text, time_since
from gatewright.plugin.terminal import print_lines


def sentence_of(release: Object, request: acts.InterventionRequest) -> str | None:
    """Return what whoever runs a procedure has to repeat; None for nothing.

    Raises RequestFailed where nobody can tell.
    """
    if request.undo:
        return None
    name = request.procedure or ""
    try:
        spec = ReleaseSpec.model_validate(release.get("spec"))
        status = ReleaseStatus.model_validate(release.get("status") or {})
    except ValidationError:
        raise RequestFailed("the Release cannot be read; is this plugin older?") from None

    procedure = find_procedure(spec, name)
    # The operator refuses one that is not there, and says which there are.
    if procedure is None:
        return None
    try:
        return sentence_to_repeat(spec, status, procedure)
    except UnknownReference as error:
        raise RequestFailed(f"what procedure {name} asks to confirm: {error}") from None


def ask_to_repeat(sentence: str, yes: bool) -> str:
    """Return the sentence of a procedure, once whoever is at the terminal has said yes to it.

    Raises RequestFailed where nobody has.
    """
    if yes:
        return sentence
    if not sys.stdin.isatty():
        raise RequestFailed(f'this asks for a yes: "{clean_text(sentence)}"; say it by --yes')

    print_lines([clean_text(sentence), "Go on? Type yes and press Enter."], sys.stderr)
    if sys.stdin.readline().strip().lower() != "yes":
        raise RequestFailed("nothing was done")
    return sentence


def wait_for_end(
    cluster: Cluster, release: str, intervention: str, deadline: float
) -> tuple[int, str]:
    """Return the exit code, and the words, for the end of the procedure that an Intervention has
    begun. Raises RequestFailed."""
    for status in acts.poll_status(lambda: cluster.get_release(release), deadline):
        row = _row_of(status, intervention)
        if row is not None and row["state"] not in OPEN_PROCEDURES:
            message = f": {row['message']}" if row.get("message") else ""
            code = DONE if row["state"] == "Succeeded" else FAILED
            return code, f"procedure {row['name']} {row['state']}{message}"
    return LATE, "the procedure is not over yet"


def begun_by(release: Object) -> str:
    """Return the Intervention that has begun the procedure under way."""
    rows = (release.get("status") or {}).get("procedures") or [{}]
    return str(rows[0].get("intervention", ""))


def _row_of(status: Mapping[str, Any], intervention: str) -> Mapping[str, Any] | None:
    rows = status.get("procedures") or ()
    return next((row for row in rows if row.get("intervention") == intervention), None)


def procedure_lines(release: Object, now: datetime) -> list[str]:
    """Return what was run lately, and what can be run."""
    lines = [_line_of_row(row, now) for row in (release.get("status") or {}).get("procedures", ())]
    name = release["metadata"]["name"]
    for raw in (release.get("spec") or {}).get("procedures") or ():
        lines += _lines_of_choice(name, raw)
    return [f"  {clean_text(line)}" for line in lines]


def _line_of_row(row: Mapping[str, Any], now: datetime) -> str:
    what = f"{row['name']} (taken back)" if row.get("undo") else row["name"]
    message = f": {row['message']}" if row.get("message") else ""
    since = time_since(row.get("finishedAt") or row["startedAt"], now)
    verb = "under way" if row["state"] in OPEN_PROCEDURES else f"{row['state']} {since} ago"
    return f"{what} by {row['by']}, {verb}{message}"


def _lines_of_choice(release: str, raw: Mapping[str, Any]) -> list[str]:
    try:
        procedure = Procedure.model_validate(raw)
    except ValidationError:
        return []
    words = f": {procedure.description}" if procedure.description else ""
    command = f'kubectl release run {release} {procedure.name} --reason "..."'
    lines = [f"{command}{words}"]
    if procedure.undo:
        lines.append(f"  {command} --undo takes it back")
    return lines
