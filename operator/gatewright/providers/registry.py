"""Every provider there is, by the key that users write.

There is no other list, and no lookup by import or entry point.

To add one, see `docs/development/providers.md`.

Instances hold no state and open nothing when they are made.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.ports import Connector, External, Gate, Notifier, Target
from gatewright.providers.github.action import GithubStep
from gatewright.providers.github.connection import GithubConnection
from gatewright.providers.github.gate import GithubGate
from gatewright.providers.http.connection import HttpConnection
from gatewright.providers.http.gate import HttpGate
from gatewright.providers.launchdarkly.connection import LaunchDarklyConnection
from gatewright.providers.launchdarkly.flags import LaunchDarklyFlags
from gatewright.providers.launchdarkly.gate import LaunchDarklyGate
from gatewright.providers.ofrep.connection import OfrepConnection
from gatewright.providers.ofrep.gate import OfrepGate
from gatewright.providers.openai.connection import OpenAIConnection
from gatewright.providers.openai.gate import OpenAIGate
from gatewright.providers.pagerduty.connection import PagerdutyConnection
from gatewright.providers.pagerduty.notifier import PagerdutyNotifier
from gatewright.providers.postgres.connection import PostgresConnection
from gatewright.providers.postgres.gate import SqlGate
from gatewright.providers.prometheus.connection import PrometheusConnection
from gatewright.providers.prometheus.gate import PrometheusGate
from gatewright.providers.redis.action import RedisFlush
from gatewright.providers.redis.connection import RedisConnection
from gatewright.providers.redis.gate import RedisGate
from gatewright.providers.reports.finding import Format
from gatewright.providers.reports.junit import Junit
from gatewright.providers.reports.k6 import K6
from gatewright.providers.reports.lighthouse import Lighthouse
from gatewright.providers.reports.npm_audit import NpmAudit
from gatewright.providers.reports.playwright import Playwright
from gatewright.providers.sentry.action import SentryStep
from gatewright.providers.sentry.connection import SentryConnection
from gatewright.providers.sentry.gate import SentryGate
from gatewright.providers.slack.connection import SlackConnection
from gatewright.providers.slack.notifier import SlackNotifier
from gatewright.providers.statuspage.connection import StatuspageConnection
from gatewright.providers.statuspage.notifier import StatuspageNotifier
from gatewright.providers.supabase.action import SupabaseActions
from gatewright.providers.supabase.connection import SupabaseConnection
from gatewright.providers.supabase.gate import SupabaseGate
from gatewright.providers.unleash.connection import UnleashConnection
from gatewright.providers.unleash.flags import UnleashFlags
from gatewright.providers.unleash.gate import UnleashGate
from gatewright.providers.upstash.action import UpstashFlush
from gatewright.providers.upstash.connection import UpstashConnection
from gatewright.providers.upstash.gate import UpstashGate
from gatewright.providers.vercel.connection import VercelConnection
from gatewright.providers.vercel.flags import VercelFlagsProvider
from gatewright.providers.vercel.gate import VercelGate
from gatewright.providers.vercel.target import VercelHost
from gatewright.providers.webhook.connection import WebhookConnection
from gatewright.providers.webhook.notifier import WebhookNotifier
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
