"""Any template, any change of the run, any change of others: what goes back, and what stays."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewright.providers.workload import template
from gatewright.providers.workload.template import TemplateFields

NAMES = st.sampled_from(["A", "B", "C", "D"])
CONTAINERS = ("app", "proxy")
VALUES = st.sampled_from(["", "1", "2", "$(A)"])
PLAIN = st.builds(
    lambda name, value: {"name": name, "value": value} if value else {"name": name}, NAMES, VALUES
)
SOURCED = st.builds(
    lambda name, key: {"name": name, "valueFrom": {"secretKeyRef": {"name": "keys", "key": key}}},
    NAMES,
    NAMES,
)
ENV = st.none() | st.lists(PLAIN | SOURCED, max_size=5)  # of one name there may be several
IMAGES = st.sampled_from(["shop/web:1", "shop/web:2", "shop/web:2@sha256:00"])
MARKS = st.none() | st.dictionaries(
    st.sampled_from(["note", template.RESTART_ANNOTATION, template.CONFIG_ANNOTATION]),
    VALUES,
    max_size=3,
)


@st.composite
def templates(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}
    for name in CONTAINERS:
        env = draw(ENV)
        found["spec"]["containers"].append(
            {"name": name, "image": draw(IMAGES), **({"env": env} if env is not None else {})}
        )
    marks = draw(MARKS)
    if marks is not None:
        found["metadata"]["annotations"] = marks
    return found


@st.composite
def changes(draw: st.DrawFn) -> TemplateFields:
    wanted = TemplateFields()
    env = st.dictionaries(
        st.sampled_from(CONTAINERS), st.dictionaries(NAMES, VALUES, max_size=3), max_size=2
    )
    wanted.take(draw(st.dictionaries(st.sampled_from(CONTAINERS), IMAGES, max_size=2)), draw(env))
    return wanted


@settings(max_examples=150, deadline=None)
@given(templates(), changes(), changes(), st.booleans())
def test_what_only_the_run_has_changed_comes_back_to_the_letter(
    before: dict[str, Any], first: TemplateFields, second: TemplateFields, marks: bool
) -> None:
    original = copy.deepcopy(before)
    now = template.change_template(template.change_template(before, first), second)
    assert not template.list_differences(now, second)
    if marks:
        template.put_annotation(now, template.RESTART_ANNOTATION, "k")
    named = TemplateFields()
    for one in (first, second):
        named.images |= one.images
        for name, variables in one.env.items():
            named.env.setdefault(name, {}).update(variables)
    assert template.restore_template(now, before, named) == original
    assert template.list_foreign_changes(now, before, named) == []
    assert before == original


@settings(max_examples=150, deadline=None)
@given(templates(), templates(), changes())
def test_what_is_not_named_stays_with_others_and_what_is_named_goes_back(
    before: dict[str, Any], now: dict[str, Any], named: TemplateFields
) -> None:
    kept = copy.deepcopy(now)
    found = template.restore_template(now, before, named)
    assert now == kept
    wanted = TemplateFields()
    wanted.go_back(named, before)
    assert not template.list_differences(found, wanted)
    for name in CONTAINERS:
        back, was, old = (template.containers_by_name(item)[name] for item in (found, now, before))
        assert back["image"] == (old if name in named.images else was)["image"]
        variables = named.env.get(name, {})
        assert [item for item in back.get("env") or [] if item["name"] not in variables] == [
            item for item in was.get("env") or [] if item["name"] not in variables
        ]
        assert sorted(
            map(str, (item for item in back.get("env") or [] if item["name"] in variables))
        ) == sorted(map(str, (item for item in old.get("env") or [] if item["name"] in variables)))
    assert bool(template.list_foreign_changes(now, before, named)) == (found != before)
    assert template.restore_template(found, before, named) == found  # once is enough


@given(templates(), templates())
def test_a_template_has_no_difference_to_itself_and_one_to_each_other(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert template.name_differences(one, copy.deepcopy(one)) == []
    assert bool(template.name_differences(one, other)) == (one != other)
