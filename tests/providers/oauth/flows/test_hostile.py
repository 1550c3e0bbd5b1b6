"""Login servers are strangers: nothing they say raises, approves by mistake, or leads elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.schema import Dialect, OAuth
from providers.oauth.flows import accounts, code_assist, copilot, device, pace, tokens
from providers.oauth.flows.login import Login, frozen, thawed
from providers.oauth.flows.outcomes import Approved, Shown
from providers.oauth.flows.paste import BadPaste, Pasted, read_paste
from providers.oauth.flows.tokens import Tokens
from providers.oauth.flows.wire import Reply, claims, is_allowed

NOW = datetime(2026, 11, 21, tzinfo=UTC)
DIALECTS = get_args(Dialect)
HOSTS = ("github.com", "*.ghe.com", "http://127.0.0.1:9000")

NONSENSE = [
    b"", b"null", b"[]", b"{}", b"5", b'"x"', b"{", b"\xff\xfe", b"<html>busy</html>", b"[" * 5000,
    b'{"access_token": null}', b'{"access_token": {}}', b'{"access_token": ["x"]}',
    b'{"access_token": true}', b'{"accessToken": ""}', b'{"error": {"code": {}}}',
    b'{"error": ["slow_down"]}', b'{"error": 5}', b'{"error": ""}', b'{"status": {}}',
    b'{"device_code": 5, "user_code": {}}', b'{"user_code": "AB\\u0000CD", "device_code": "x"}',
    b'{"interval": "x", "expires_in": []}', b'{"expires_in": 1e400}', b'{"token": 5}',
    b'{"endpoints": "x", "token": ""}', b'{"allowedTiers": {"a": 1}, "ineligibleTiers": 5}',
    b'{"name": "operations/../../x", "done": false}', b'{"clientId": 5, "clientSecret": "x"}',
    b'{"profiles": [null, 5, {"arn": {}}]}', b'{"account": [], "user": 5}',
]  # fmt: skip
STATUSES = [200, 202, 400, 401, 403, 404, 410, 429, 500, 503]


def login(dialect: Any, **facts: Any) -> Login:
    oauth = OAuth(
        flow="device_code",
        dialect=dialect,
        client_id="c",
        device_url="https://github.com/start",
        token_url="https://github.com/token",
        setup_url="https://github.com/setup",
        exchange_url="https://github.com/exchange",
        allowed_hosts=HOSTS,
        **facts,
    )
    return Login(name="device", oauth=oauth)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nonsense_never_raises_and_never_approves(dialect: str) -> None:
    way, held = login(dialect), Tokens(access_token="a", refresh_token="r", base_token="b")
    for body in NONSENSE:
        for status in STATUSES:
            reply = Reply(status, {"retry-after": "nan"}, body)
            assert not isinstance(device.read_start(way, reply), Shown), (status, body)
            assert not isinstance(device.read_poll(way, reply), Approved), (status, body)
            assert not isinstance(device.read_registration(reply), dict)
            assert not isinstance(device.read_discovery(way, reply), dict)
            for read in (tokens.read_refresh, tokens.read_exchange, tokens.read_base):
                assert isinstance(read(way, held, reply, NOW), tokens.RenewFailed), (status, body)
            assert not isinstance(code_assist.read_load(way, reply), code_assist.Ready)
            assert not isinstance(
                code_assist.read_operation(way, reply), code_assist.Ready | code_assist.Running
            )
            found = accounts.read_account(way, reply, accounts.Account(id="1", label="me"))
            assert found.endpoint == {}


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/x", "https://evil.test/", "https://github.com.evil.test/",
        "https://github.com@evil.test/", "https://evil.test/#github.com", "javascript:alert(1)",
        "https://user:pw@github.com/", "//github.com/x", "github.com/x", "https://ghe.com/",
        "https://xghe.com/", "ftp://github.com/", "https://github.com\\@evil.test/",
        "https://githu\u0432.com/", "https://github.com/\r\nX: y", "", "https://", "https://[::1/",
        "http://127.0.0.1:9001/", "http://127.0.0.1/", "https://127.0.0.1:9000/", "data:text/html",
        "HTTPS://EVIL.TEST/", "https://evil.test\x00.github.com/",
    ],
)  # fmt: skip
def test_links_lead_only_to_listed_hosts(url: str) -> None:
    """Bar W5."""
    assert not is_allowed(url, HOSTS)
    answer = Reply(
        200,
        {},
        b'{"device_code": "d", "user_code": "U", "verification_uri": ' + _json(url) + b"}",
    )
    shown = device.read_start(login("rfc8628"), answer)
    assert not isinstance(shown, Shown)


def _json(text: str) -> bytes:
    import json

    return json.dumps(text).encode()


@pytest.mark.parametrize(
    "url",
    ["https://github.com/x", "HTTPS://GitHub.com:443/x", "https://a.ghe.com/", "https://a.b.ghe.com",
     "http://127.0.0.1:9000/page?user_code=A-B"],
)  # fmt: skip
def test_listed_hosts_are_shown(url: str) -> None:
    assert is_allowed(url, HOSTS)


def test_a_whole_link_that_leads_elsewhere_is_left_out() -> None:
    body = (
        b'{"device_code": "d", "user_code": "U", "verification_uri": "https://github.com/d", '
        b'"verification_uri_complete": "https://evil.test/d?c=U"}'
    )
    shown = device.read_start(login("rfc8628"), Reply(200, {}, body))
    assert isinstance(shown, Shown)
    assert shown.verification_uri_complete == "https://github.com/d"


@pytest.mark.parametrize(
    ("api", "proxy", "host"),
    [
        ("https://api.github.com/", "", "api.github.com"),
        ("https://evil.test", "proxy.github.com", "api.github.com"),
        ("http://127.0.0.1:9000/copilot", "evil.test", ""),
        ("", "", ""),
    ],
)
def test_copilots_host_is_a_listed_one_or_none(api: str, proxy: str, host: str) -> None:
    way = login("github")
    way = thawed(frozen(way).replace("*.ghe.com", "*.github.com"), Secret(""))
    body = (
        b'{"token": "tid=a;proxy-ep=' + proxy.encode() + b';x=y", "expires_at": 1, '
        b'"endpoints": {"api": "' + api.encode() + b'"}}'
    )
    read = copilot.read_exchange(way, Reply(200, {}, body), NOW)
    assert isinstance(read, copilot.Exchanged)
    assert read.endpoint.get("api_host", "") == host
    # A time that is past is not believed.
    assert read.expires_at == NOW.timestamp() + 25 * 60


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        ("abc#s", Pasted("abc", "s")),
        (" abc # s \n", Pasted("abc", "s")),
        ("abc", Pasted("abc")),
        ("http://localhost:1455/auth/callback?code=abc&state=s", Pasted("abc", "s")),
        ("https://x.test/#code=abc&state=s", Pasted("abc", "s")),
        ("?code=abc&state=s", Pasted("abc", "s")),
        ("code=abc", Pasted("abc")),
    ],
    ids=range(7),
)
def test_pastes(pasted: str, expected: Pasted) -> None:
    assert read_paste(pasted, state="s") == expected


@pytest.mark.parametrize(
    "pasted",
    ["", "  ", "#", "#s", "abc#other", "http://localhost/?state=s", "http://localhost/?error=denied",
     "http://[::1", "a" * 5000, "abc\x00", "?code=abc&state=other", "?code=&state=s"],
    ids=range(12),
)  # fmt: skip
def test_pastes_that_are_none(pasted: str) -> None:
    assert isinstance(read_paste(pasted, state="s"), BadPaste)


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "a.!!!.c", "a.e30.c", "a.W10.c", "a..c"])
def test_claims_of_what_is_no_token(text: str) -> None:
    assert claims(text) == {}


def test_the_pace_never_quickens() -> None:
    assert pace.interval(None) == 5
    assert [pace.interval(value) for value in (-1, 0, 0.2, 7, 1e9)] == [5, 5, 1, 7, 120]
    seconds = 5.0
    for told in (None, 3, 20, 1, None):
        slower = pace.slower(seconds, told)
        assert slower >= seconds + 5
        seconds = slower
    rests = [pace.next_poll(NOW, 5, failures=number) - NOW for number in range(10)]
    assert rests == sorted(rests)
    assert rests[0] >= timedelta(seconds=5)
    assert rests[-1] <= timedelta(seconds=61)


def test_renewal_is_ahead_of_the_end_and_never_in_the_first_half() -> None:
    issued = NOW.timestamp()
    for lasts in (60, 600, 1_800, 3_600, 28_800, 864_000):
        held = Tokens(
            access_token="a", refresh_token="r", issued_at=issued, expires_at=issued + lasts
        )
        for lead in (60, 300, 3_600, 86_400):
            for spread in (0.0, 1.0):
                due = tokens.refresh_at(held, lead, spread)
                assert due is not None
                assert 0.4 * lasts <= due.timestamp() - issued < lasts
    assert tokens.refresh_at(Tokens(access_token="a", expires_at=issued + 9), 60, 0) is None
