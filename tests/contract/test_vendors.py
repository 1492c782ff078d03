"""That every request of every contract test is checked against the vendor's own description."""

from __future__ import annotations

import pytest

from gatewright.providers.common import client
from gatewright.providers.registry import CONNECTIONS
from tests.cluster.paths import CHECKOUT
from tests.contract import vendors, world
from tests.contract.listed import assert_all_listed
from tests.fakes.serving import always, linked, serving


@pytest.fixture(autouse=True)
def _as_the_vendors_describe_it() -> None:
    """Here wrong requests are made on purpose."""


def test_every_connection_has_a_file_or_a_reason() -> None:
    assert_all_listed(
        vendors.VENDORS.keys() | vendors.WITHOUT.keys(),
        CONNECTIONS,
        "VENDORS in tests/contract/vendors.py",
        "the vendor's OpenAPI file; to WITHOUT if there is none, and why",
    )
    both = sorted(vendors.VENDORS.keys() & vendors.WITHOUT.keys())
    assert not both, f"take {both} out of WITHOUT in tests/contract/vendors.py: it has a file"


def test_the_fixture_is_there_for_all() -> None:
    text = (CHECKOUT / "tests/contract/conftest.py").read_text()
    assert "with vendors.checked():" in text


WRONG = [
    # Connection   secret         method    path                                             words
    ("github", "token", "GET", "/repos/acme/shop/isues", "Path not found"),
    ("github", "token", "GET", "/repos/acme/shop/issues?label=P0", "parameter: label"),
    ("ofrep", "bearerToken", "GET", "/ofrep/v1/evaluate/flags/voice", "not found"),
    ("openai", "apiKey", "GET", "/model", "Path not found"),
    ("pagerduty", "routingKey", "POST", "/v2/enqueues", "Path not found"),
    ("prometheus", "bearerToken", "POST", "/api/v1/querys", "Path not found"),
    (
        "sentry",
        "token",
        "GET",
        "/api/0/organizations/acme/events/?dataset=mistakes&field=a",
        "dataset",
    ),
    ("statuspage", "apiKey", "DELETE", "/pages", "not found"),
    ("supabase", "token", "GET", "/v1/projects/abcdefghijklmnopqrst/healthy", "Path not found"),
    ("vercel", "token", "POST", "/v9/projects/foco/rollback/dpl_1", "no such operation"),
]


def test_every_file_is_tried() -> None:
    assert_all_listed(
        {row[0] for row in WRONG},
        vendors.VENDORS,
        "WRONG in tests/contract/test_vendors.py",
        "a request that its OpenAPI file does not have",
    )


@pytest.mark.parametrize("row", WRONG, ids=[f"{row[0]} {row[4]}" for row in WRONG])
async def test_a_request_that_is_none_of_the_vendors_fails_its_test(
    row: tuple[str, str, str, str, str],
) -> None:
    kind, secret, method, path, words = row
    assert vendors.at_hand(vendors.VENDORS[kind].file) is not None
    async with serving(always({})) as url:
        more = {"organization": "acme"} if kind == "sentry" else {}
        link = linked(kind, {"url": url, **more}, {secret: world.TOKEN})
        with pytest.raises(AssertionError, match=words), vendors.checked():
            await client.ask(link, method, path)


async def test_who_has_no_file_may_ask_anything() -> None:
    async with serving(always({})) as url:
        with vendors.checked():
            await client.ask(linked("http", {"url": url}, {}), "GET", "/anything")
