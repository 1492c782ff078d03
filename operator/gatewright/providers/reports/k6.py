"""The three summaries of k6, each told by its shape (grafana/k6 1.8: internal/cmd/summary, internal/js/summary.js).

    --summary-export                 {root_group, metrics: {NAME: {"p(95)": 1.2, thresholds: {EXPR: true = CROSSED}}}}
    handleSummary(data)              {root_group, state, metrics: {NAME: {type, values: {}, thresholds: {EXPR: {ok}}}}}
    --new-machine-readable-summary   {version, metadata, results: {metrics: [...]}}: no thresholds at all

k6 lets every threshold hold that had nothing to judge: a run without a single request ends with exit code 0 and
`p(95)<500` kept. Failed checks alone change neither the exit code nor the verdict; a threshold on `checks` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gatewright.api.jobs import K6Report
from gatewright.providers.reports.documents import json_documents
from gatewright.providers.reports.finding import Finding, count, decimal, many, number, plain, rows, table

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
    """A crossed threshold is a failure, and so is one that had nothing to judge, or a run without any."""

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
        return [item for item in json_documents(text) if isinstance(item, dict) and (_judged(item) or _unjudged(item))]

    def judge(self, documents: Sequence[Any], config: K6Report) -> Finding:
        outputs = _outputs([_metrics(document) for document in documents])
        if any(_unjudged(document) for document in documents):
            return Finding(
                False, "a machine-readable summary holds no thresholds; use --summary-export or handleSummary", outputs
            )
        found = [one for document in documents for one in _thresholds(document)]
        bad = [one for one in found if one.state != "held"]
        outputs = {
            "passed": str(len(found) - len(bad)), "failed": str(len(bad)), "total": str(len(found))
        } | outputs  # fmt: skip
        for document in documents:
            if not _amount(_metrics(document), "iterations"):
                return Finding(False, "no iteration was completed", outputs)
        if bad:
            kinds = {one.state for one in bad}
            said = _SAID[bad[0].state] if len(kinds) == 1 else "not held"
            return Finding(
                False, f"{len(bad)} of {many(len(found), 'threshold')} {said}, first: {_words(bad[0])}", outputs
            )
        missing = [name for name in config.thresholds if name not in {one.metric for one in found}]
        if missing or not found:
            return Finding(False, f"no threshold on {missing[0]}" if missing else "it has no threshold", outputs)
        return Finding(True, f"{many(len(found), 'threshold')} held", outputs)


def _judged(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("metrics"), dict) and "root_group" in document


def _unjudged(document: Mapping[str, Any]) -> bool:
    results = document.get("results")
    return isinstance(results, dict) and isinstance(results.get("metrics"), list) and "metadata" in document


def _metrics(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics by name, their values by `p(95)`, `count`, `rate`, `passes` ... whatever the shape."""
    if _unjudged(document):
        return {str(item.get("name")): _new(item) for item in rows(document["results"]["metrics"], "results.metrics")}
    found = {name: table(item, f"metrics.{plain(name, 60)}") for name, item in document["metrics"].items()}
    return {name: table(item["values"], "values") if "values" in item else item for name, item in found.items()}


def _new(item: Mapping[str, Any]) -> dict[str, Any]:
    values = table(item.get("values"), "values")
    return {re.sub(r"^p([\d.]+)$", r"p(\1)", name): value for name, value in values.items()}


def _thresholds(document: Mapping[str, Any]) -> Iterator[_Threshold]:
    metrics = _metrics(document)
    for name, item in document["metrics"].items():
        # Only the older shape has values beside the thresholds, and there `true` means crossed.
        crossed_is_true = "values" not in item
        for expression, verdict in table(item.get("thresholds", {}), "thresholds").items():
            state = _state(verdict, crossed_is_true)
            if state == "held" and not _measured(name, metrics[name]):
                state = "unmeasured"
            yield _Threshold(name, expression, state, _value(expression, metrics[name]))


def _state(verdict: Any, crossed_is_true: bool) -> State:
    if crossed_is_true:
        return "unknown" if not isinstance(verdict, bool) else "crossed" if verdict else "held"
    ok = verdict.get("ok") if isinstance(verdict, dict) else None
    return "unknown" if not isinstance(ok, bool) else "held" if ok else "crossed"


def _measured(name: str, values: Mapping[str, Any]) -> bool:
    """Whether there was anything to judge. A counter that counted nothing is a measurement, a time of nothing is none."""
    if "passes" in values or "fails" in values:
        return bool(_amount({name: values}, name, "passes") + _amount({name: values}, name, "fails"))
    spread = [number(values[key]) for key in ("min", "avg", "max") if key in values]
    if len(spread) < 2 or "value" in values or name.partition("{")[0] in _OFTEN_ZERO:
        return True
    return any(spread)


def _amount(metrics: Mapping[str, Mapping[str, Any]], name: str, key: str = "count") -> int:
    """How many; none where the metric is not there, which is how k6 says that nothing was counted."""
    return count(metrics.get(name, {}).get(key, 0), f"{name}.{key}")


def _value(expression: str, values: Mapping[str, Any]) -> float | None:
    match = _AGGREGATE.match(expression)
    if match is None:
        return None
    key = match[1].replace(" ", "")
    return number(values.get(key, values.get("value") if key == "rate" else None))


def _words(one: _Threshold) -> str:
    value = f" ({decimal(one.value)})" if one.value is not None and one.state == "crossed" else ""
    return plain(f"{one.metric} {one.expression}{value}")


def _outputs(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Sums over all summaries; of times and ratios the worst. What one does not hold is left out."""
    found = {
        "iterations": str(sum(_amount(metrics, "iterations") for metrics in runs)),
        "requests": str(sum(_amount(metrics, "http_reqs") for metrics in runs)),
    }
    for key in ("avg", "p(90)", "p(95)", "p(99)"):
        times = [number(metrics.get("http_req_duration", {}).get(key)) for metrics in runs]
        known = [value for value in times if value is not None]
        if known and len(known) == len(runs) and found["requests"] != "0":
            found[key.replace("(", "").replace(")", "")] = f"{decimal(max(known))}ms"
    failed = [_ratio(metrics.get("http_req_failed", {})) for metrics in runs]
    rates = [value for value in failed if value is not None]
    if rates and len(rates) == len(runs) and found["requests"] != "0":
        found["errorRate"] = f"{decimal(max(rates) * 100)}%"
    checks = [metrics["checks"] for metrics in runs if "passes" in metrics.get("checks", {})]
    if checks:
        for name, key in (("checksPassed", "passes"), ("checksFailed", "fails")):
            found[name] = str(sum(_amount({"checks": item}, "checks", key) for item in checks))
    return found


def _ratio(values: Mapping[str, Any]) -> float | None:
    return number(values.get("rate", values.get("value")))
