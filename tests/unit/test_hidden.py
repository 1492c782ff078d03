"""Values of Secrets in what others say: hidden in every spelling, in pieces, and before anything is
cut."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatewright.core.text import foreign
from gatewright.ports import Answer, OpenConnection, Permanent, Retryable
from gatewright.providers.common import words
from gatewright.providers.common.secrets import (
    hide_in_answer,
    hide_in_error,
    hide_secrets,
    spare_words_of,
)

VALUE = 'p@s"s/w+rd & <q7Zk2Xb9Lm4Tc8Vw>'
PIECES = [VALUE[at : at + 12] for at in range(len(VALUE) - 11)]


def link(*values: str) -> OpenConnection:
    return OpenConnection(
        "n", "i", None, 1.0, {("a", str(number)): value for number, value in enumerate(values)}
    )


SPELLED = {
    "as it is": VALUE,
    "in upper case": VALUE.upper(),
    "in a URL": quote(VALUE, safe=""),
    "in a path": quote(VALUE),
    "in a form": quote_plus(VALUE),
    "in a URL, in small letters": quote(VALUE, safe="").lower(),
    "in JSON": json.dumps(VALUE)[1:-1],
    "in HTML": html.escape(VALUE),
    "in hexadecimal": VALUE.encode().hex(),
    "in Base64": base64.b64encode(VALUE.encode()).decode(),
    "after a user": base64.b64encode(f"app:{VALUE}".encode()).decode(),
    "after another user": base64.b64encode(f"admin:{VALUE}:x".encode()).decode(),
    "in Base64 for URLs": base64.urlsafe_b64encode(VALUE.encode()).decode(),
    "its beginning": VALUE[:20] + "...",
    "its end": "..." + VALUE[-20:],
    "its middle": VALUE[5:20],
}


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
def test_a_secret_is_hidden_however_it_is_spelled(spelled: str) -> None:
    shown = hide_secrets(f"no access with <{spelled}> today", link(VALUE))
    assert "***" in shown and "no access with" in shown and "today" in shown
    kept = shown.replace("no access with <", "").replace("> today", "").replace("***", "")
    assert len(kept) <= 12, kept  # what stands at the edges of an encoding, and is of no use


@pytest.mark.parametrize("length", range(280, 330))
def test_a_secret_where_a_message_is_cut_is_hidden_before(length: int) -> None:
    shown = hide_secrets(f"{'x' * (length - len(VALUE))}{VALUE}{'y' * 100}", link(VALUE))
    assert len(shown) <= 301 and "p@s" not in shown


@pytest.mark.parametrize("length", [16 * 1024 + at for at in (-40, -20, -3, 0, 3)])
def test_nor_does_one_show_where_a_long_text_is_cut(length: int) -> None:
    shown = hide_secrets(
        f"{VALUE * 400}{'x' * 30000}"[: length + 2000][:length] + VALUE + "y" * 9999,
        link(VALUE),
        10**6,
    )
    assert "p@s" not in shown


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(
    one=st.text("abc", min_size=4, max_size=9),
    other=st.text("abc", min_size=4, max_size=9),
    before=st.text("abc xyz", max_size=9),
    after=st.text("abc xyz", max_size=9),
)
def test_two_secrets_that_overlap_are_both_hidden(
    one: str, other: str, before: str, after: str
) -> None:
    shown = hide_secrets(f"{before}{one}{other[2:]}{after}{other}", link(one, other))
    assert one not in shown and other not in shown


def test_the_password_of_a_url_is_hidden_and_its_host_is_not() -> None:
    shown = hide_secrets(
        "no route to db.shop.svc.cluster.local for q7Zk2Xb9",
        link("postgres://app:q7Zk2Xb9@db.shop.svc.cluster.local/shop"),
    )
    assert shown == "no route to db.shop.svc.cluster.local for ***"


def test_an_answer_and_an_error_hold_no_secret_and_keep_what_they_are() -> None:
    error = Retryable(f"bad {VALUE}")
    error.after = 3.0
    found = hide_in_error(error, link(VALUE))
    assert (type(found), str(found), getattr(found, "after", None)) == (Retryable, "bad ***", 3.0)
    assert isinstance(hide_in_error(Permanent("x"), link()), Permanent)
    assert hide_in_answer(Answer(1.0, f"1 of {VALUE}"), link(VALUE)) == Answer(1.0, "1 of ***")


# --------------------------------------------------------------------------------------------------
# What others answer


@pytest.mark.parametrize(
    "value, shown",
    [
        (None, '"null"'),
        (True, '"true"'),
        (12, '"12"'),
        (0.5, '"0.5"'),
        ("ok", '"ok"'),
        ("2.4.0-rc1", '"2.4.0-rc1"'),
        ("not ready yet", '"not ready yet"'),
        ("restricted_action_read_only_channel", '"restricted_action_read_only_channel"'),
        ("2026-01-02T03:04:05.678Z", '"2026-01-02T03:04:05.678Z"'),
        ("8f3c2e1", '"8f3c2e1"'),
        ("a?", "a text that is not shown"),
        ("", "an empty text"),
        ("one two three four five six", "a text that is not shown"),
        ("x" * 1234, "a text that is not shown"),
        ("q7Zk2Xb9Lm4Tc8", "a text that is not shown"),
        ("0123456789abcdef0123456789abcdef", "a text that is not shown"),
        ('{"internal": 1}', "a text that is not shown"),
        ("user:word", "a text that is not shown"),
        (10**50, "a number of many digits"),
        ({"a": 1}, "an object"),
        ([1], "a list"),
    ],
)
def test_of_what_others_answer_short_words_are_shown(value: object, shown: str) -> None:
    assert foreign.quote_value(value) == shown


TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwYXltZW50cyJ9.c2lnbmF0dXJlLXdpdGgtMzI"
SHORT = "tiger"
GUESSES = {
    "all of it": ("$.tiger is not in the body", "$.lions is not in the body"),
    "a piece": ("$['NiJ9.eyJzdWI'] is empty", "$['NiJ9.eyJzdXI'] is empty"),
    "in upper case": ("$['NIJ9.EYJZDWI'] is empty", "$['NIJ9.EYJZDXI'] is empty"),
}


@pytest.mark.parametrize(("right", "wrong"), GUESSES.values(), ids=GUESSES)
def test_what_an_author_guesses_is_shown_whether_it_is_right_or_not(right: str, wrong: str) -> None:
    """Seen on a cluster: `***` in the author's own jsonPath told 16 characters of a token in ten
    seconds."""
    for message in right, wrong:
        with spare_words_of({"jsonPath": message.partition(" ")[0]}):
            assert hide_secrets(message, link(TOKEN, SHORT)) == message
    assert "***" in hide_secrets(right, link(TOKEN, SHORT)), "nobody has written that"


def test_a_guess_in_two_fields_that_a_message_joins_is_shown_as_well() -> None:
    with spare_words_of({"table": {"schema": "NiJ9", "name": "eyJzdWI"}}):
        assert hide_secrets("NiJ9.eyJzdWI has no rows", link(TOKEN)) == "NiJ9.eyJzdWI has no rows"


def test_pieces_that_an_author_has_written_are_not_put_together() -> None:
    with spare_words_of({"names": ["Tige", "rX7Z", "T", "i", "g"]}):
        assert hide_secrets("X-Key is TigerX7Z", link("TigerX7Z")) == "X-Key is ***"


def test_one_long_value_is_no_list_of_guesses() -> None:
    """Seen on a cluster: a service repeated the secret, and the guess in the middle of a path had
    it shown."""
    for written in "/echo?g=aaaaaaTigerX7Zbbbbbb", "0000000482913999999":
        for secret in "TigerX7Z", "482913":
            with spare_words_of({"path": written}):
                assert hide_secrets(f"X-Key is {secret}", link(secret)) == "X-Key is ***"
                assert hide_secrets(f"GET {written}: 404", link(secret)) == f"GET {written}: 404"


@pytest.mark.parametrize("spell", [str.upper, str.lower, str.swapcase])
def test_a_short_secret_is_hidden_in_either_case(spell: Callable[[str], str]) -> None:
    """Seen on a cluster: a redirect's host is told in lower case."""
    shown = hide_secrets(f"a redirect to https://{spell('Hunter2x')}.example.com", link("Hunter2x"))
    assert shown == "a redirect to https://***.example.com"


def test_a_short_secret_is_hidden_encoded() -> None:
    for encoded in base64.b64encode(b"Hunter2x").decode().rstrip("="), b"Hunter2x".hex():
        assert hide_secrets(f"got {encoded}", link("Hunter2x")) == "got ***"


@pytest.mark.parametrize("spell", [quote_plus, html.escape, lambda text: json.dumps(text)[1:-1]])
def test_a_guess_is_shown_as_the_message_spells_it(spell: Callable[[str], str]) -> None:
    guess = "w+rd & <q7Zk2Xb9Lm4Tc8Vw"
    message = f"GET /{spell(guess)}: 404"
    with spare_words_of(guess):
        assert hide_secrets(message, link(VALUE)) == message


def test_more_of_a_secret_than_its_author_wrote_stays_hidden() -> None:
    with spare_words_of({"jsonPath": "$['NiJ9.eyJzdWI']"}):
        for echo in TOKEN, f"Bearer {TOKEN}", TOKEN[10:40]:
            shown = hide_secrets(f"$['NiJ9.eyJzdWI'] is {echo}", link(TOKEN))
            assert shown.startswith("$['NiJ9.eyJzdWI'] is ") and shown.endswith("***")
    assert "***" in hide_secrets("NiJ9.eyJzdWI", link(TOKEN)), "only while it is asked"


# --- no mask tells whether a guess was right


@settings(max_examples=1000, deadline=None)
@example(before="aaaaaaaaaaaa", after="", guess="333333333333 3")
@given(
    before=st.text(alphabet="ab \n\t\r\x0b'\"%.é\u00a0", max_size=20),
    after=st.text(alphabet="ab \n\t\r\x0b'\"%.é\u00a0", max_size=400),
    guess=st.text(alphabet="aB3 x", min_size=8, max_size=24),
)
def test_what_an_author_has_written_reads_the_same_whatever_the_secret_is(
    before: str, after: str, guess: str
) -> None:
    written = f"{before}{guess}{after}"
    message = f'$.state is true, expected "{written}"'
    with spare_words_of({"equals": written}):
        right, wrong = (
            # By the provider, and once more by whoever has asked it.
            hide_secrets(hide_secrets(message, opened), opened)
            for opened in (link(guess), link("something else entirely"))
        )
    assert right == wrong


@pytest.mark.parametrize("gap", ["\n", "\t", "\r\n", "\x0b", "  "])
def test_a_line_break_in_what_the_author_writes_makes_no_mask(gap: str) -> None:
    written = f"x{gap}sk_live_51Nq7RkZ sk_live_51Nq7RkY"
    opened = link("sk_live_51Nq7RkZ")
    with spare_words_of({"equals": written}):
        shown = hide_secrets(hide_secrets(f'expected "{written}"', opened), opened)
    assert "***" not in shown and shown.endswith('sk_live_51Nq7RkZ sk_live_51Nq7RkY"')


@pytest.mark.parametrize("sent_back", ["739184", "corn", "tKq9m Z3pLw 7xVb2", "hunter2x"])
def test_a_word_that_is_sent_back_reads_the_same_whatever_the_secret_is(sent_back: str) -> None:
    said = []
    for secret in (sent_back, "something else entirely"):
        opened = link(secret)
        with words.of_answers(opened):
            said.append(hide_secrets(f"$.n is {words.quote_value(sent_back)}", opened))
    assert said == ["$.n is a text that is not shown"] * 2


@pytest.mark.parametrize(
    "word", ["degraded", "2.3.1", "2026-11-30T18:00:00Z", "503", "ACTIVE_HEALTHY"]
)
def test_a_word_that_is_known_is_repeated(word: str) -> None:
    with words.of_answers(link("hunter2x")):
        assert words.to_plain_word(word) == word


def test_a_connection_without_secrets_repeats_short_words() -> None:
    open_to_all = OpenConnection("site", "site/1", SimpleNamespace(url="http://site"), 1.0)
    with words.of_answers(open_to_all):
        assert words.to_plain_word("corn horse") == "corn horse"


@pytest.mark.parametrize("host", ["tkq9mz3p.x.test", "x.test:8443"])
def test_the_host_of_a_redirect_reads_the_same_whatever_the_secret_is(host: str) -> None:
    with words.of_answers(link("hunter2x")):
        assert words.redirect_target(f"http://{host}", "http://site/open") == "another host"
        assert words.redirect_target("https://site", "http://site/open") == "https://site"
        assert words.redirect_target("another path of the same host", "http://site/open") == (
            "another path of the same host"
        )
