"""Every provider there is, by the key that users write. There is no other list, and no lookup by
import or entry point.

To add one:

1. Write one file beside its kind (`gates/`, `targets/`, `connections/`): its configuration model,
  whose docstrings become CRD and reference, and its coroutines. It says how things went by an
  Answer, a LiveState or a Progress, and raises Retryable or Permanent (`ports`); an answer that is
  not understood is never good. A target says in `access` what the operator needs, and in `author`
  what a Release's author must be allowed for it.
2. Add one line here.
3. Add its case to `tests/contract/cases.py`, its own table to `tests/contract/`, its sample to
  `manifests/`, and run `make generate`.

Instances hold no state and open nothing when they are made.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.ports import Connector, External, Gate, Notifier, Target
from gatewright.providers.actions.github import GithubStep
from gatewright.providers.actions.redis import RedisFlush
from gatewright.providers.actions.sentry import SentryStep
from gatewright.providers.actions.supabase import SupabaseActions
from gatewright.providers.actions.upstash import UpstashFlush
from gatewright.providers.connections.github import GithubConnection
from gatewright.providers.connections.http import HttpConnection
from gatewright.providers.connections.launchdarkly import LaunchDarklyConnection
from gatewright.providers.connections.ofrep import OfrepConnection
from gatewright.providers.connections.openai import OpenAIConnection
from gatewright.providers.connections.pagerduty import PagerdutyConnection
from gatewright.providers.connections.postgres import PostgresConnection
from gatewright.providers.connections.prometheus import PrometheusConnection
from gatewright.providers.connections.redis import RedisConnection
from gatewright.providers.connections.sentry import SentryConnection
from gatewright.providers.connections.slack import SlackConnection
from gatewright.providers.connections.statuspage import StatuspageConnection
from gatewright.providers.connections.supabase import SupabaseConnection
from gatewright.providers.connections.unleash import UnleashConnection
from gatewright.providers.connections.upstash import UpstashConnection
from gatewright.providers.connections.vercel import VercelConnection
from gatewright.providers.connections.webhook import WebhookConnection
from gatewright.providers.flags.launchdarkly import LaunchDarklyFlags
from gatewright.providers.flags.unleash import UnleashFlags
from gatewright.providers.flags.vercel import VercelFlagsProvider
from gatewright.providers.gates.github import GithubGate
from gatewright.providers.gates.http import HttpGate
from gatewright.providers.gates.launchdarkly import LaunchDarklyGate
from gatewright.providers.gates.ofrep import OfrepGate
from gatewright.providers.gates.openai import OpenAIGate
from gatewright.providers.gates.prometheus import PrometheusGate
from gatewright.providers.gates.redis import RedisGate
from gatewright.providers.gates.sentry import SentryGate
from gatewright.providers.gates.sql import SqlGate
from gatewright.providers.gates.supabase import SupabaseGate
from gatewright.providers.gates.unleash import UnleashGate
from gatewright.providers.gates.upstash import UpstashGate
from gatewright.providers.gates.vercel import VercelGate
from gatewright.providers.hosts.vercel import VercelHost
from gatewright.providers.notifiers.pagerduty import PagerdutyNotifier
from gatewright.providers.notifiers.slack import SlackNotifier
from gatewright.providers.notifiers.statuspage import StatuspageNotifier
from gatewright.providers.notifiers.webhook import WebhookNotifier
from gatewright.providers.reports.finding import Format
from gatewright.providers.reports.junit import Junit
from gatewright.providers.reports.k6 import K6
from gatewright.providers.reports.lighthouse import Lighthouse
from gatewright.providers.reports.npm_audit import NpmAudit
from gatewright.providers.reports.playwright import Playwright
from gatewright.providers.workload.target import Workload

GATES: Mapping[str, Gate] = {
    "prometheus": PrometheusGate(),
    "http": HttpGate(),
    "sql": SqlGate(),
    "github": GithubGate(),
    "sentry": SentryGate(),
    "supabase": SupabaseGate(),
    "redis": RedisGate(),
    "upstash": UpstashGate(),
    "openai": OpenAIGate(),
    "ofrep": OfrepGate(),
    "unleash": UnleashGate(),
    "launchdarkly": LaunchDarklyGate(),
    "vercel": VercelGate(),
}

TARGETS: Mapping[str, Target] = {
    "workload": Workload(),
}

EXTERNAL_TARGETS: Mapping[str, External] = {
    "vercel": VercelHost(),
}
"""Targets outside the cluster."""

FLAGS: Mapping[str, External] = {
    "unleash": UnleashFlags(),
    "launchdarkly": LaunchDarklyFlags(),
    "vercel": VercelFlagsProvider(),
}
"""Feature flags outside the cluster, for `flags` steps."""

ACTIONS: Mapping[str, External] = {
    "github": GithubStep(),
    "sentry": SentryStep(),
    "supabase": SupabaseActions(),
    "redis": RedisFlush(),
    "upstash": UpstashFlush(),
}
"""What a step may do elsewhere: one step kind each."""

NEEDS_APPROVAL = frozenset({"redis", "upstash"})
"""Actions without a way back: somebody approves them in their own stage first."""

NOTIFIERS: Mapping[str, Notifier] = {
    "slack": SlackNotifier(),
    "pagerduty": PagerdutyNotifier(),
    "statuspage": StatuspageNotifier(),
    "webhook": WebhookNotifier(),
}

CONNECTIONS: Mapping[str, Connector] = {
    "prometheus": PrometheusConnection(),
    "http": HttpConnection(),
    "postgres": PostgresConnection(),
    "github": GithubConnection(),
    "sentry": SentryConnection(),
    "slack": SlackConnection(),
    "pagerduty": PagerdutyConnection(),
    "statuspage": StatuspageConnection(),
    "supabase": SupabaseConnection(),
    "webhook": WebhookConnection(),
    "redis": RedisConnection(),
    "upstash": UpstashConnection(),
    "openai": OpenAIConnection(),
    "ofrep": OfrepConnection(),
    "unleash": UnleashConnection(),
    "launchdarkly": LaunchDarklyConnection(),
    "vercel": VercelConnection(),
}

REPORTS: Mapping[str, Format] = {
    "playwright": Playwright(),
    "k6": K6(),
    "lighthouse": Lighthouse(),
    "npmAudit": NpmAudit(),
    "junit": Junit(),
}
"""What a Job may leave behind."""
