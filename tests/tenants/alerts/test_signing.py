"""The signature that receivers check."""

from __future__ import annotations

import base64

import pytest

from controlplane.kit.secret import Secret
from tenants.alerts import signing

BODY = b'{"type":"alert.test"}'
NOW = 1_700_000_000


def test_the_scheme_is_the_published_one() -> None:
    """The example of the standard's own reference libraries."""
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signing.signature(
        secret,
        delivery_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at_seconds=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_genuine_or_it_is_not() -> None:
    secret, other = signing.secret_of(b"a" * 32), signing.secret_of(b"b" * 32)
    sent = signing.headers([secret], delivery_id="one", at_seconds=NOW, body=BODY)
    assert signing.is_genuine(secret, sent, BODY, now_seconds=NOW)
    assert not signing.is_genuine(other, sent, BODY, now_seconds=NOW)
    assert not signing.is_genuine(secret, sent, BODY + b" ", now_seconds=NOW)
    assert not signing.is_genuine(
        secret, sent, BODY, now_seconds=NOW + signing.TOLERANCE_SECONDS + 1
    )


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "1", "é"])
def test_no_header_can_be_missing_or_other(name: str, value: str | None) -> None:
    secret = signing.secret_of(b"a" * 32)
    sent = signing.headers([secret], delivery_id="one", at_seconds=NOW, body=BODY)
    sent = {key: text for key, text in sent.items() if key != name or value is not None}
    if value is not None:
        sent[name] = value
    assert not signing.is_genuine(secret, sent, BODY, now_seconds=NOW)


def test_while_a_secret_is_replaced_either_is_enough() -> None:
    new, old = signing.secret_of(b"n" * 32), signing.secret_of(b"o" * 32)
    sent = signing.headers([new, old], delivery_id="one", at_seconds=NOW, body=BODY)
    assert signing.is_genuine(new, sent, BODY, now_seconds=NOW)
    assert signing.is_genuine(old, sent, BODY, now_seconds=NOW)


def test_secrets_are_long_and_spelled_for_the_libraries() -> None:
    text = signing.secret_of(bytes(range(32))).reveal()
    assert text.startswith("whsec_")
    assert base64.b64decode(text.removeprefix("whsec_")) == bytes(range(32))
