"""Ends of logs: what is repeated of them, and what never is."""

from __future__ import annotations

import pytest

from gatewright.core.text import masking

KEPT = [
    "Type error: 'x' is not a number",
    'ERROR: duplicate key value violates unique constraint "users_pkey"',
    "relation users exists",
    "Error: connect ECONNREFUSED 10.0.0.7:5432",
    "at Object.<anonymous> (/app/node_modules/next/dist/server/lib/start-server.js:123:45)",
    "monkeys are unhappy",
    f"pulling registry.example.com/acme/shop@sha256:{'0123456789abcdef' * 4}",
    f"imageID docker-pullable://registry.example.com/acme/shop@sha256:{'0123456789abcdef' * 4}",
    "request 6f1f8a3e-1b7c-4e55-9d7e-0123456789ab failed with 503",
    "request_id=6f1f8a3e-1b7c-4e55-9d7e-0123456789ab",
    "HEAD is at commit 0123456789abcdef0123456789abcdef01234567",
    "see https://github.com/acme/shop/commit/0123456789abcdef0123456789abcdef01234567",
    "GET https://packages.example.com/@types/node@20.1.2 404",
    "GET http://api.shop.svc:8080/v1/orders?limit=10 answered 503",
    "redis://cache:6379/0 refused, postgres://db:5432/shop?sslmode=require too",
    "kafka://one:9092,two:9092/orders is not there",
    "http://[::1]:8080/healthz is down",
    "POST /api/webhooks/stripe 500 in 12ms",
    "PWD=/app HOME=/root npm_config_cache=/tmp",
    "Tests: 3 failed, 12 passed; PASS src/DashboardPage2023Controller.test.ts",
    "/app/src/components/checkout/ServerSidePropsRenderer2.tsx:10:4",
    "token is expired / password authentication failed for user shop",
    "Error: secret not found",
    "sk-SK is no locale, re_exported is no name",
    "2026-01-02T03:04:05.123456Z ERROR OrderService2 NullPointerException",
    "author: Ana",
    # one's own addresses, in a sentence
    "http://host:8080: no answer within 10s",
    "http://host:8080/api/health: no answer within 10s",
    "https://shop.example.com:8443; then http://[::1]:8080, and (http://host:8080).",
    "cannot reach http://host:8080… or http://host:8080!",
    "redis://cache:6379: the connection was refused",
    "kafka://one:9092,two:9092: no answer",
    "http://checkout-service-v2-canary.shop.svc.cluster.local:8080: no answer",
    # names of Kubernetes
    "checkout-web-7d4b9c6f5-x2x7k is not ready",
    "pod/checkout-web-7d4b9c6f5-x2x7k of shop/checkout-web-7d4b9c6f5",
    "checkout-7d4b9c6f5-x2x7k.checkout.shop.svc.cluster.local:8080",
    "job foco-database-migration-1-migrate-5f6d7c8b9 of web-migrate-29012345-abcde",
    "gke-prod-pool-1-3f2a1b7c-x2x7 and ip-10-0-12-34.eu-west-1.compute.internal",
    "statefulset-postgres-primary-0 in namespace pr-1234-feature-checkout-button2",
    "pvc-6f1f8a3e-1b7c-4e55-9d7e-0123456789ab is not bound",
    'secret "checkout-credentials-v2" not found',
    "secret checkout-db not found",
    (
        'secrets "db-credentials" is forbidden: User "system:serviceaccount:shop:default" '
        'cannot get resource "secrets"'
    ),
    "couldn't find key password in Secret shop/db-credentials",
    "token-service: no endpoints",
    "authorization-service: 503 from upstream",
    "keycloak: connection refused",
    "monkey: 3 of hockey: 4, keyboard: qwerty",
    # what is counted, or is not there
    "max_tokens=1000, completion_tokens: 12",
    "passwordless: true, token: null, password=undefined;",
    # versions and images
    "v1.2.3-rc.1+build.20240101 is not 1.30.2-gke.1587003",
    "2.4.0-20240102T030405Z.abcdef1 after 1h30m5.25s at 20260102T030405Z",
    "registry.example.com/acme/shop:0123456789abcdef0123456789abcdef01234567 not found",
    "registry.example.com:5000/shop:sha-0123456789abcdef0123456789abcdef01234567: not found",
    'pulling image "registry.example.com/acme/shop:main-0123456"',
]
MASKED = [
    ("OPENAI_API_KEY=sk-abc", "OPENAI_API_KEY=***"),
    ('"token": "abc"', '"token": ***'),
    ("--token abcdef", "--token ***"),
    ("password: hunter2", "password: ***"),
    ("password hunter", "password ***"),
    ("Authorization: Bearer abcdef", "Authorization: ***"),
    ("API_KEY: 'sk-1' token=abcdef", "API_KEY: *** token=***"),
    ("the key of the token abcdef", "the key of the token ***"),
    ("the key sk-proj-1 is not valid", "the key *** is not valid"),
    ("postgres://app:s3cr3t@db/shop refused", "postgres://db/shop refused"),
    ("got eyJhbGciOiJIUzI1NiJ9AAAA.eyJzdWIiOiIxMjM0NTY3ODkwIn0", "got ***"),
    ("id 0123456789abcdef0123456789abcdef", "id ***"),
]
ALNUM = "q7Zk2Xb9Lm4Tc8Vw1Nd5Rf3Gs6"
"""What no message may show any part of."""
HOSTILE = [
    # webhooks, whose URL is their secret
    (
        f"POST https://hooks.slack.com/services/T0AB/B0CD/{ALNUM} 404",
        "POST https://hooks.slack.com/*** 404",
    ),
    (f"https://hooks.slack.com/workflows/q7Zk/2Xb9/{ALNUM}", "https://hooks.slack.com/***"),
    (f"https://discord.com/api/webhooks/123456/{ALNUM}", "https://discord.com/api/webhooks/***"),
    (
        f"https://api.telegram.org/bot123456:{ALNUM}q7Zk2Xb9/sendMessage",
        "https://api.telegram.org/***",
    ),
    (f"bot 123456789:AA{ALNUM}q7Zk2Xb9 is unknown", "bot *** is unknown"),
    (
        f"https://acme.webhook.office.com/webhookb2/{ALNUM}@q7/IncomingWebhook/2Xb9",
        "https://acme.webhook.office.com/***",
    ),
    (
        "https://events.pagerduty.com/integration/q7k2b9m4c8w1d5f3s6/enqueue",
        "https://events.pagerduty.com/integration/***",
    ),
    (
        "https://hook.example.com/q/0123456789abcdef0123456789abcdef",
        "https://hook.example.com/q/***",
    ),
    (f"https://shop.example.com/reset/{ALNUM}/go", "https://shop.example.com/reset/***/go"),
    (f"GET /reset/{ALNUM} 500", "GET /reset/*** 500"),
    (f"https://x.example.com/a?sig={ALNUM}&b=1", "https://x.example.com/a?sig=***"),
    (
        f"https://x.example.com/a?X-Amz-Signature={ALNUM}",
        "https://x.example.com/a?X-Amz-Signature=***",
    ),
    # URLs whose password holds what ends a host
    *(
        (
            f"postgres://app:q7{sign}2Xb9@db.shop:5432/shop refused",
            "postgres://db.shop:5432/shop refused",
        )
        for sign in ("@", "/", "#", "?", ":", "@/", "/@", "#?")
    ),
    *(
        (f"https://app:q7{sign}2Xb9@git.example.com/x.git", "https://git.example.com/x.git")
        for sign in "@/#?:"
    ),
    ("redis://:q7Zk@cache:6379", "redis://cache:6379"),
    ('dsn "postgres://app:q7"Zk@db/x"', "dsn ***"),
    ("mysql://app:q7'2Xb9@db/x", "mysql://app:***"),
    ("http://app:q7Zk@host:8080: no answer", "http://host:8080: no answer"),
    ("https://app:q7Zk: no answer", "https://app:*** no answer"),
    ("https://app:8080:q7Zk: no answer", "https://app:*** no answer"),
    ("http://host:8080/?token=q7Zk: no answer", "http://host:8080/?token=*** no answer"),
    # what looks like a name of Kubernetes, or stands where one does
    ("prod-q7zk2xb9lm4tc8vw1nd5", "***"),
    ("prod-q7zk2xb9-lm4tc8vw-1nd5rf3g", "***"),
    ("abcd-1234-efgh-5678-ijkl-9012", "***"),
    ("q7zk2xb9-checkout-7d4b9c6f5", "***"),
    ("secret q7Zk2Xb9 not found", "secret *** not found"),
    ("secret q7zk2xb9 was used", "secret *** was used"),
    ("in Secret q7Zk/2Xb9+Lm4T", "in Secret ***"),
    ("token-service=q7Zk", "token-service=***"),
    ("tokens: q7Zk", "tokens: ***"),
    ("password: 4711", "password: ***"),
    ("api_key: 4711 keycloak_password: q7Zk", "api_key: *** keycloak_password: ***"),
    ("a:0123456789abcdef0123456789abcdef01234567", "a:***"),
    ("acme/shop:0123456789abcdef0123456789abcdef01234567", "acme/shop:***"),
    ("registry.example.com/shop:0123456789abcdef0123456789abcdef", "registry.example.com/shop:***"),
    # keys of vendors, wherever they stand
    ("AWS wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKE1 denied", "AWS *** denied"),
    (f"{'AKIA'}IOSFODNN7EXAMPLE may not", "*** may not"),
    *(
        (f"used {prefix}{ALNUM} here", "used *** here")
        for prefix in (
            "ghp_",
            "gho_",
            "github_pat_",
            "glpat-",
            "sk_live_",
            "rk_test_",
            "whsec_",
            "sk-",
            "sk-proj-",
            "sk-ant-api03-",
            "xoxb-1-",
            "npm_q7Zk2Xb9Lm",
            "AIza",
            "ya29.",
            "GOCSPX-",
            "SG.",
            "hvs.",
            "sbp_",
            "sb_secret_",
            "sntrys_",
            "dp.pt.",
            "hf_",
            "pypi-Ag",
        )
    ),
    (f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJx.{ALNUM} is not valid", "*** is not valid"),
    ("sdk-01234567-89ab-cdef-0123-456789abcdef is not known", "*** is not known"),
    # names and values
    ('password: "q7 Zk" is wrong', "password: *** is wrong"),
    ("FOO_SECRET='q7 Zk 2Xb9' BAR=1", "FOO_SECRET=*** BAR=1"),
    ("password: / q7Zk / next", "password: *** / next".replace(": ***", ": / ***")),
    ("password: |- / q7Zk / next", "password: |- / *** / next"),
    ('{"token":"q7Zk","error":"boom"}', '{"token":***,"error":"boom"}'),
    (r"{\"token\": \"q7 Zk\", \"error\": \"boom\"}", r"{\"token\": ***, \"error\": \"boom\"}"),
    ('{"password": "q7\\"Zk", "a": 1}', '{"password": ***, "a": 1}'),
    ("Authorization: Basic cTdaazpRN1pr and on", "Authorization: *** and on"),
    ("authorization: token q7Zk", "authorization: ***"),
    (
        "Authorization: AWS4-HMAC-SHA256 Credential=q7Zk/x, Signature=q7Zk next",
        "Authorization: *** next",
    ),
    ("Cookie: a=q7Zk; b=2Xb9 next", "Cookie: *** next"),
    ("--password q7Zk --verbose", "--password *** --verbose"),
    ("--api-key q-Zk", "--api-key ***"),
    ("DB_PASS=q7Zk MYSQL_PWD=q7Zk", "DB_PASS=*** MYSQL_PWD=***"),
    ("the password is q7Zk2 today", "the password is *** today"),
    ("'db_password' => 'q7 Zk',", "'db_password' => ***,"),
    # blocks
    (
        "key / -----BEGIN RSA PRIVATE KEY----- / q7Zk / 2Xb9 / -----END RSA PRIVATE KEY----- / on",
        "key / *** / on",
    ),
    ("a -----BEGIN OPENSSH PRIVATE KEY----- / q7Zk / 2Xb9", "a ***"),
    (f"on / {ALNUM * 2} / q7Zk -----END PRIVATE KEY----- off", "on *** off"),
]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masking.mask_secrets(text) == text


@pytest.mark.parametrize("text, shown", MASKED)
def test_what_looks_like_a_secret_does_not(text: str, shown: str) -> None:
    assert masking.mask_secrets(text).startswith(shown)
    assert not any(
        secret in masking.mask_secrets(text)
        for secret in ("sk-", "hunter", "s3cr3t", "eyJ", "abcdef")
    )


@pytest.mark.parametrize("text, shown", HOSTILE)
def test_what_opens_something_is_masked_in_every_form(text: str, shown: str) -> None:
    assert masking.mask_secrets(text) == shown
    parts = (ALNUM[at : at + 4] for at in range(len(ALNUM) - 3))
    assert not any(part in masking.mask_secrets(text) for part in parts)


@pytest.mark.parametrize("text, shown", HOSTILE)
def test_a_line_of_a_log_is_masked_as_a_text_is(text: str, shown: str) -> None:
    """What `one_line` makes of line breaks hides no name from its value."""
    broken = text.replace(" / ", "\n")
    assert masking.mask_secrets(masking.join_lines(broken.splitlines())) == shown


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_secret_that_is_cut_is_masked_before(cut: int) -> None:
    """Whatever a text is cut to, it ends as the masked text does."""
    text = (
        f"failed with token {ALNUM} / and password: 'q7 Zk' / for postgres://app:q7Zk@db/shop "
        "/ over"
    )
    assert (
        masking.mask_beginning(text, cut).removesuffix("…") == masking.mask_secrets(text)[: cut - 1]
    )


def test_of_a_text_that_is_too_long_to_look_at_no_cut_word_is_shown() -> None:
    text = f"{'a ' * (masking.MOST_TEXT_CHARS // 2 - 10)}password {ALNUM} end"
    assert ALNUM[:2] not in masking.mask_beginning(text, masking.MOST_TEXT_CHARS)
    text = f"password {ALNUM} {'a ' * (masking.MOST_TEXT_CHARS // 2 - 10)}"
    assert ALNUM[-2:] not in masking.mask_ending(text[3:])
    assert masking.mask_beginning(ALNUM * 1000, 50) == masking.keep_beginning("", 50)
    assert masking.mask_ending(ALNUM * 1000) == "… "


def test_one_line_without_colours() -> None:
    assert (
        masking.join_lines(["\x1b[31mno\x1b[0m  such   file", "", "  exit 1"])
        == "no such file / exit 1"
    )


def test_the_end_is_kept() -> None:
    assert masking.keep_end("a" * masking.MOST_LOG_CHARS) == "a" * masking.MOST_LOG_CHARS
    assert (
        masking.keep_end("a" * 5000 + "the end") == f"…{'a' * (masking.MOST_LOG_CHARS - 7)}the end"
    )
