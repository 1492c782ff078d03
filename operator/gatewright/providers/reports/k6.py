"""The three summaries of k6, each told by its shape (grafana/k6 1.8: internal/cmd/summary,
internal/js/summary.js).

    --summary-export                 {root_group, metrics: {NAME: {"p(95)": 1.2, thresholds: ...}}}
                                     thresholds: {EXPR: true = CROSSED}
    handleSummary(data)              {root_group, state, metrics: {NAME: {type, values: {},
                                     thresholds: ...}}}; thresholds: {EXPR: {ok}}
    --new-machine-readable-summary   {version, metadata, results: {metrics: [...]}}: no thresholds
                                     at all

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
_FAULTS: Mapping[State, str] = {
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
    # grafana/k6: errext/exitcodes/codes.go
    exits: Mapping[int, str] = {
        99: "thresholds were crossed",
        100: "setup timed out",
        101: "teardown timed out",
        104: "wrong configuration",
        105: "aborted from outside",
        107: "the script raised an exception",
        108: "the script aborted the test",
        110: "the script failed the test",
    }

    def documents(self, output: str) -> list[Any]:
        return [document for document in find_json_documents(output) if _is_summary(document)]

    def judge(self, documents: Sequence[Any], config: K6Report) -> Finding:
        outputs = _outputs_of([_metrics_of(document) for document in documents])
        if any(_lacks_judgement(document) for document in documents):
            remedy = "use --summary-export or handleSummary"
            words = f"a machine-readable summary holds no thresholds; {remedy}"
            return Finding(False, words, outputs)

        thresholds: list[_Threshold] = []
        for document in documents:
            thresholds += _thresholds_of(document)
        bad = [threshold for threshold in thresholds if threshold.state != "held"]

        held = len(thresholds) - len(bad)
        counts = {"passed": str(held), "failed": str(len(bad)), "total": str(len(thresholds))}
        outputs = counts | outputs

        # k6 lets every threshold hold that had nothing to judge.
        for document in documents:
            if not _amount_of(_metrics_of(document), "iterations"):
                return Finding(False, "no iteration was completed", outputs)
        if bad:
            return Finding(False, _describe_bad(bad, len(thresholds)), outputs)

        metrics = {threshold.metric for threshold in thresholds}
        missing = [name for name in config.thresholds if name not in metrics]
        if missing:
            return Finding(False, f"no threshold on {missing[0]}", outputs)
        if not thresholds:
            return Finding(False, "it has no threshold", outputs)

        return Finding(True, f"{show_amount(len(thresholds), 'threshold')} held", outputs)


def _describe_bad(bad: Sequence[_Threshold], total: int) -> str:
    states = {threshold.state for threshold in bad}
    fault = _FAULTS[bad[0].state] if len(states) == 1 else "not held"
    first = _describe_threshold(bad[0])
    return f"{len(bad)} of {show_amount(total, 'threshold')} {fault}, first: {first}"


def _is_summary(document: Any) -> bool:
    return isinstance(document, dict) and (_has_judgement(document) or _lacks_judgement(document))


def _has_judgement(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("metrics"), dict) and "root_group" in document


def _lacks_judgement(document: Mapping[str, Any]) -> bool:
    results = document.get("results")
    has_list = isinstance(results, dict) and isinstance(results.get("metrics"), list)
    return has_list and "metadata" in document


def _metrics_of(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return metrics by name, their values by `p(95)`, `count`, `rate`, `passes` ... whatever the
    shape."""
    if _lacks_judgement(document):
        listed = require_objects(document["results"]["metrics"], "results.metrics")
        return {str(metric.get("name")): _values_of(metric) for metric in listed}

    by_name: dict[str, dict[str, Any]] = {}
    for name, value in document["metrics"].items():
        metric = require_object(value, f"metrics.{plain_line(name, 60)}")
        # Only the older shape has values beside the thresholds.
        is_nested = "values" in metric
        by_name[name] = require_object(metric["values"], "values") if is_nested else metric
    return by_name


def _values_of(metric: Mapping[str, Any]) -> dict[str, Any]:
    values = require_object(metric.get("values"), "values")
    return {re.sub(r"^p([\d.]+)$", r"p(\1)", name): value for name, value in values.items()}


def _thresholds_of(document: Mapping[str, Any]) -> Iterator[_Threshold]:
    metrics = _metrics_of(document)
    for name, metric in document["metrics"].items():
        # Only the older shape has values beside the thresholds, and there `true` means crossed.
        crossed_is_true = "values" not in metric
        for expression, verdict in require_object(
            metric.get("thresholds", {}), "thresholds"
        ).items():
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
    """Return whether there was anything to judge.

    A counter that counted nothing is a measurement, a time of nothing is none.
    """
    if "passes" in values or "fails" in values:
        metrics = {name: values}
        return bool(_amount_of(metrics, name, "passes") + _amount_of(metrics, name, "fails"))

    spread = [number_or_none(values[key]) for key in ("min", "avg", "max") if key in values]
    if len(spread) < 2 or "value" in values or name.partition("{")[0] in _OFTEN_ZERO:
        return True
    return any(spread)


def _amount_of(metrics: Mapping[str, Mapping[str, Any]], name: str, key: str = "count") -> int:
    """Return how many there are; none where the metric is not there, which is how k6 says that
    nothing was counted."""
    return require_count(metrics.get(name, {}).get(key, 0), f"{name}.{key}")


def _value_for(expression: str, values: Mapping[str, Any]) -> float | None:
    match = _AGGREGATE.match(expression)
    if match is None:
        return None
    key = match[1].replace(" ", "")
    return number_or_none(values.get(key, values.get("value") if key == "rate" else None))


def _describe_threshold(threshold: _Threshold) -> str:
    value = ""
    if threshold.value is not None and threshold.state == "crossed":
        value = f" ({show_decimal(threshold.value)})"
    return plain_line(f"{threshold.metric} {threshold.expression}{value}")


def _outputs_of(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Return sums over all summaries; of times and ratios the worst.

    What one does not hold is left out.
    """
    requests = sum(_amount_of(metrics, "http_reqs") for metrics in runs)
    outputs = {
        "iterations": str(sum(_amount_of(metrics, "iterations") for metrics in runs)),
        "requests": str(requests),
    }

    # Of no request, times and ratios are zero, which says nothing.
    if requests:
        outputs |= _request_outputs(runs)

    checks = [metrics["checks"] for metrics in runs if "passes" in metrics.get("checks", {})]
    if checks:
        for name, key in (("checksPassed", "passes"), ("checksFailed", "fails")):
            amounts = [_amount_of({"checks": check}, "checks", key) for check in checks]
            outputs[name] = str(sum(amounts))

    return outputs


def _request_outputs(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    outputs: dict[str, str] = {}
    for key in ("avg", "p(90)", "p(95)", "p(99)"):
        times = [number_or_none(metrics.get("http_req_duration", {}).get(key)) for metrics in runs]
        worst = _worst_of_all(times)
        if worst is not None:
            outputs[key.replace("(", "").replace(")", "")] = f"{show_decimal(worst)}ms"

    worst = _worst_of_all([_ratio_of(metrics.get("http_req_failed", {})) for metrics in runs])
    if worst is not None:
        outputs["errorRate"] = f"{show_decimal(worst * 100)}%"
    return outputs


def _worst_of_all(values: Sequence[float | None]) -> float | None:
    """Return the largest, where every summary has one."""
    told = [value for value in values if value is not None]
    return max(told) if told and len(told) == len(values) else None


def _ratio_of(values: Mapping[str, Any]) -> float | None:
    return number_or_none(values.get("rate", values.get("value")))
