"""The plugin reads a Release together with its Runbook, and without it says what was not judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewright.plugin.__main__ import main
from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.runbooks import with_runbook
from tests.unit.test_runbooks import RELEASE, RUNBOOK


def document(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": "shop"}
    version = "gatewright.dev/v1alpha1"
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A Release and its Runbook, each in a file of its own."""
    release, runbook = tmp_path / "cart.yaml", tmp_path / "runbook.yaml"
    release.write_text(yaml.safe_dump(document("Release", "cart", RELEASE)))
    runbook.write_text(yaml.safe_dump(document("Runbook", "web", RUNBOOK)))
    return str(release), str(runbook)


def test_both_are_judged_together(files: tuple[str, str], capsys: Any) -> None:
    assert main(["lint", "-f", files[0], "-f", files[1]]) == 0
    shown = capsys.readouterr()
    assert shown.out == "2 objects without a problem\n" and shown.err == ""


def test_of_a_release_alone_it_is_said_what_was_not_judged(
    files: tuple[str, str], capsys: Any
) -> None:
    assert main(["lint", "-f", files[0]]) == 0
    assert capsys.readouterr().err == (
        "Release/cart: Runbook web is not in these files, so its vars were not judged\n"
    )


def test_what_a_release_alone_has_wrong_is_told(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "cart.yaml"
    file.write_text(yaml.safe_dump(document("Release", "cart", RELEASE | {"guardFor": "1h"})))
    assert main(["lint", "-f", str(file)]) == 1
    assert "spec.guardFor: stands in Runbook web" in capsys.readouterr().out


def test_a_plan_takes_the_runbook_from_another_file(files: tuple[str, str], capsys: Any) -> None:
    assert main(["plan", "-f", files[0], "-f", files[1]]) == 0
    assert "ship" in capsys.readouterr().out
    assert main(["checklist", "-f", files[0], "-f", files[1]]) == 0


def test_a_plan_says_where_it_misses_the_runbook(files: tuple[str, str], capsys: Any) -> None:
    assert main(["plan", "-f", files[0]]) == 1
    assert "Runbook web is not in the file; give the file that has it" in capsys.readouterr().err


def test_which_of_several_releases_is_meant_is_asked_for(
    files: tuple[str, str], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(document("Release", "search", RELEASE)))
    assert main(["plan", "-f", str(tmp_path)]) == 1
    assert "has 2 Releases (cart, search); give the file of one of them first" in (
        capsys.readouterr().err
    )
    assert main(["plan", "-f", files[0], "-f", str(tmp_path)]) == 0


def test_a_release_that_names_none_asks_for_none() -> None:
    release = document("Release", "cart", {"version": "1"})

    def never(name: str) -> None:
        raise AssertionError(name)

    assert with_runbook(release, never) == release


def test_a_runbook_that_is_not_there_is_named() -> None:
    with pytest.raises(RequestFailed, match="there is no Runbook web; create it first"):
        with_runbook(document("Release", "cart", RELEASE), lambda name: None)
