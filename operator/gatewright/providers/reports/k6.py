"""The three summaries of k6, each told by its shape (grafana/k6 1.8: internal/cmd/summary,
internal/js/summary.js).

    --summary-export                 {root_group, metrics: {NAME: {"p(95)": 1.2, thresholds: {EXPR: true = CROSSED}}}}
    handleSummary(data)              {root_group, state, metrics: {NAME: {type, values: {}, thresholds: {EXPR: {ok}}}}}
    --new-machine-readable-summary   {version, metadata, results: {metrics: [...]}}: no thresholds at all

k6 lets every threshold hold that had nothing to judge: a run without a single request ends with
exit code 0 and `p(95)<500` kept. Failed checks alone change neither the exit code nor the verdict;
a threshold on `checks` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gatewright.api.jobs import K6Report
from gatewright.providers.reports.documents import find_json_documents
from gatewright.providers.reports.finding import (
    Finding,
    number_or_none,
    plain_line,
    require_count,
    require_object,
    require_objects,
    show_amount,
    show_decimal,
)

_AGGREGATE = re.compile(r"\s*([a-z]+(?:\(\s*[\d.]+\s*\))?)")
_OFTEN_ZERO = ("http_req_connecting", "http_req_tls_handshaking", "http_req_blocked")
"""Times that are all zero where connections are used again."""
State = Literal["held", "crossed", "unmeasured", "unknown"]
_SAID: Mapping[State, str] = {
    "crossed": "crossed",
    "unmeasured": "not measured: there was no sample",
    "unknown": "not understood",
}


@dataclass(frozen=True, slots=True)
class _Threshold:
    metric: str
    expression: str
    state: State
    value: float | None


class K6:
    """A crossed threshold is a failure, and so is one that had nothing to judge, or a run without
    any."""

    title = "k6 summary"
    exits: Mapping[int, str] = {
        99: "thresholds were crossed",
        100: "setup timed out",
        101: "teardown timed out",
        104: "wrong configuration",
        105: "aborted from outside",
        107: "the script raised an exception",
        108: "the script aborted the test",
        110: "the script failed the test",
    }  # grafana/k6: errext/exitcodes/codes.go

    def documents(self, text: str) -> list[Any]:
        return [
            item
            for item in find_json_documents(text)
            if isinstance(item, dict) and (_has_judgement(item) or _lacks_judgement(item))
        ]

    def judge(self, documents: Sequence[Any], config: K6Report) -> Finding:
        outputs = _outputs_of([_metrics_of(document) for document in documents])
        if any(_lacks_judgement(document) for document in documents):
            return Finding(
                False,
                (
                    "a machine-readable summary holds no thresholds; use --summary-export or "
                    "handleSummary"
                ),
                outputs,
            )
        found = [one for document in documents for one in _thresholds_of(document)]
        bad = [one for one in found if one.state != "held"]
        outputs = {
            "passed": str(len(found) - len(bad)), "failed": str(len(bad)), "total": str(len(found))
        } | outputs  # fmt: skip
        for document in documents:
            if not _amount_of(_metrics_of(document), "iterations"):
                return Finding(False, "no iteration was completed", outputs)
        if bad:
            kinds = {one.state for one in bad}
            said = _SAID[bad[0].state] if len(kinds) == 1 else "not held"
            return Finding(
                False,
                (
                    f"{len(bad)} of {show_amount(len(found), 'threshold')} {said}, first: "
                    f"{_describe_threshold(bad[0])}"
                ),
                outputs,
            )
        missing = [name for name in config.thresholds if name not in {one.metric for one in found}]
        if missing or not found:
            return Finding(
                False,
                f"no threshold on {missing[0]}" if missing else "it has no threshold",
                outputs,
            )
        return Finding(True, f"{show_amount(len(found), 'threshold')} held", outputs)


def _has_judgement(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("metrics"), dict) and "root_group" in document


def _lacks_judgement(document: Mapping[str, Any]) -> bool:
    results = document.get("results")
    return (
        isinstance(results, dict)
        and isinstance(results.get("metrics"), list)
        and "metadata" in document
    )


def _metrics_of(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics by name, their values by `p(95)`, `count`, `rate`, `passes` ... whatever the
    shape."""
    if _lacks_judgement(document):
        return {
            str(item.get("name")): _values_of(item)
            for item in require_objects(document["results"]["metrics"], "results.metrics")
        }
    found = {
        name: require_object(item, f"metrics.{plain_line(name, 60)}")
        for name, item in document["metrics"].items()
    }
    return {
        name: require_object(item["values"], "values") if "values" in item else item
        for name, item in found.items()
    }


def _values_of(item: Mapping[str, Any]) -> dict[str, Any]:
    values = require_object(item.get("values"), "values")
    return {re.sub(r"^p([\d.]+)$", r"p(\1)", name): value for name, value in values.items()}


def _thresholds_of(document: Mapping[str, Any]) -> Iterator[_Threshold]:
    metrics = _metrics_of(document)
    for name, item in document["metrics"].items():
        # Only the older shape has values beside the thresholds, and there `true` means crossed.
        crossed_is_true = "values" not in item
        for expression, verdict in require_object(item.get("thresholds", {}), "thresholds").items():
            state = _state_of(verdict, crossed_is_true)
            if state == "held" and not _was_measured(name, metrics[name]):
                state = "unmeasured"
            yield _Threshold(name, expression, state, _value_for(expression, metrics[name]))


def _state_of(verdict: Any, crossed_is_true: bool) -> State:
    if crossed_is_true:
        return "unknown" if not isinstance(verdict, bool) else "crossed" if verdict else "held"
    ok = verdict.get("ok") if isinstance(verdict, dict) else None
    return "unknown" if not isinstance(ok, bool) else "held" if ok else "crossed"


def _was_measured(name: str, values: Mapping[str, Any]) -> bool:
    """Whether there was anything to judge. A counter that counted nothing is a measurement, a time
    of nothing is none."""
    if "passes" in values or "fails" in values:
        return bool(
            _amount_of({name: values}, name, "passes") + _amount_of({name: values}, name, "fails")
        )
    spread = [number_or_none(values[key]) for key in ("min", "avg", "max") if key in values]
    if len(spread) < 2 or "value" in values or name.partition("{")[0] in _OFTEN_ZERO:
        return True
    return any(spread)


def _amount_of(metrics: Mapping[str, Mapping[str, Any]], name: str, key: str = "count") -> int:
    """How many; none where the metric is not there, which is how k6 says that nothing was
    counted."""
    return require_count(metrics.get(name, {}).get(key, 0), f"{name}.{key}")


def _value_for(expression: str, values: Mapping[str, Any]) -> float | None:
    match = _AGGREGATE.match(expression)
    if match is None:
        return None
    key = match[1].replace(" ", "")
    return number_or_none(values.get(key, values.get("value") if key == "rate" else None))


def _describe_threshold(one: _Threshold) -> str:
    value = (
        f" ({show_decimal(one.value)})" if one.value is not None and one.state == "crossed" else ""
    )
    return plain_line(f"{one.metric} {one.expression}{value}")


def _outputs_of(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Sums over all summaries; of times and ratios the worst. What one does not hold is left
    out."""
    found = {
        "iterations": str(sum(_amount_of(metrics, "iterations") for metrics in runs)),
        "requests": str(sum(_amount_of(metrics, "http_reqs") for metrics in runs)),
    }
    for key in ("avg", "p(90)", "p(95)", "p(99)"):
        times = [number_or_none(metrics.get("http_req_duration", {}).get(key)) for metrics in runs]
        known = [value for value in times if value is not None]
        if known and len(known) == len(runs) and found["requests"] != "0":
            found[key.replace("(", "").replace(")", "")] = f"{show_decimal(max(known))}ms"
    failed = [_ratio_of(metrics.get("http_req_failed", {})) for metrics in runs]
    rates = [value for value in failed if value is not None]
    if rates and len(rates) == len(runs) and found["requests"] != "0":
        found["errorRate"] = f"{show_decimal(max(rates) * 100)}%"
    checks = [metrics["checks"] for metrics in runs if "passes" in metrics.get("checks", {})]
    if checks:
        for name, key in (("checksPassed", "passes"), ("checksFailed", "fails")):
            found[name] = str(sum(_amount_of({"checks": item}, "checks", key) for item in checks))
    return found


def _ratio_of(values: Mapping[str, Any]) -> float | None:
    return number_or_none(values.get("rate", values.get("value")))
