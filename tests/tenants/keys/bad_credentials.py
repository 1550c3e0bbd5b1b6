"""Bar K2's columns: credentials that no route may accept. Route tests run over them:

    @pytest.mark.parametrize("name", NAMES)
    def test_refused(name: str, keys: Keys) -> None:
        bad = BAD[name](keys)
        answer = call(route, headers=bad.headers, query=bad.query)

`Keys.make(tenant=…, other_tenant=…)` puts the keys behind them into the database.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.lookup import SECRET_BYTES, TokenKind, render
from tenants.keys.models import ApiKey
from tenants.keys.services import create_key, revoke_key
from tenants.members.models import Tenant

Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Bad:
    headers: tuple[Header, ...] = ()
    query: bytes = b""
    # A good key of another tenant: known, so the route answers as for a row that is not there.
    is_known_elsewhere: bool = False


@dataclass(frozen=True)
class Keys:
    good: str
    second: str
    revoked: str
    expired: str
    foreign: str
    unknown: str

    @classmethod
    def make(cls, *, tenant: Tenant, other_tenant: Tenant) -> Keys:
        now = clock.now()
        past = now - timedelta(days=2)

        def token(owner: Tenant, label: str) -> tuple[ApiKey, str]:
            key, secret = create_key(
                tenant=owner,
                label=label,
                scopes=["proxy", "read", "manage"],
                expires_at=past + timedelta(days=1) if label == "expired" else None,
                now=past,
            )
            return key, secret.reveal()

        with acting_as("command", None, "tests"):
            with scope.tenant(tenant.id):
                made = {
                    name: token(tenant, name) for name in ("good", "second", "revoked", "expired")
                }
                revoke_key(key=made["revoked"][0], now=now)
            with scope.tenant(other_tenant.id):
                made["foreign"] = token(other_tenant, "foreign")
        return cls(
            **{name: text for name, (_, text) in made.items()},
            unknown=render(TokenKind.LIVE, "0" * 12, b"\x07" * SECRET_BYTES),
        )


def bearer(token: str | bytes) -> Header:
    return b"authorization", b"Bearer " + (token.encode() if isinstance(token, str) else token)


def _mistyped(token: str) -> str:
    return token[:-1] + ("a" if token[-1] != "a" else "b")


BAD: Final[dict[str, Callable[[Keys], Bad]]] = {
    "none": lambda keys: Bad(),
    "empty bearer": lambda keys: Bad((bearer(""),)),
    "empty authorization": lambda keys: Bad(((b"authorization", b""),)),
    "empty x-api-key": lambda keys: Bad(((b"x-api-key", b""),)),
    "wrong": lambda keys: Bad((bearer(keys.unknown),)),
    "mistyped": lambda keys: Bad((bearer(_mistyped(keys.good)),)),
    "cut": lambda keys: Bad((bearer(keys.good[:20]),)),
    "with more behind it": lambda keys: Bad((bearer(keys.good + "a"),)),
    "public id only": lambda keys: Bad((bearer(keys.good.split("_")[2]),)),
    "an invitation": lambda keys: Bad(
        (bearer(render(TokenKind.INVITE, "0" * 12, b"\x07" * SECRET_BYTES)),)
    ),
    "somebody's vendor key": lambda keys: Bad((bearer("sk-" + "a1B2" * 12),)),
    "revoked": lambda keys: Bad((bearer(keys.revoked),)),
    "expired": lambda keys: Bad((bearer(keys.expired),)),
    "other tenant's": lambda keys: Bad((bearer(keys.foreign),), is_known_elsewhere=True),
    "two keys in two headers": lambda keys: Bad(
        (bearer(keys.good), (b"x-api-key", keys.second.encode()))
    ),
    "two keys in one header": lambda keys: Bad((bearer(f"{keys.good}, Bearer {keys.second}"),)),
    "two authorization headers": lambda keys: Bad((bearer(keys.good), bearer(keys.second))),
    "a good key and an empty one": lambda keys: Bad((bearer(keys.good), (b"api-key", b""))),
    "basic": lambda keys: Bad(
        ((b"authorization", b"Basic " + base64.b64encode(f"x:{keys.good}".encode())),)
    ),
    "no scheme": lambda keys: Bad(((b"authorization", keys.good.encode()),)),
    "underscores": lambda keys: Bad(((b"x_api_key", keys.good.encode()),)),
    "cookie": lambda keys: Bad(((b"cookie", b"key=" + keys.good.encode()),)),
    "64 KB": lambda keys: Bad((bearer("a" * 65_536),)),
    "64 KB behind a good key": lambda keys: Bad((bearer(keys.good + " " * 65_536 + "x"),)),
    "non-ASCII": lambda keys: Bad((bearer("pcp_live_ключ".encode()),)),
    "non-UTF-8": lambda keys: Bad((bearer(b"pcp_live_\xff\xfe"),)),
    "wide digits": lambda keys: Bad((bearer(keys.good[:-1] + "\uff11"),)),
    "NUL": lambda keys: Bad((bearer(keys.good + "\0"),)),
    "NUL inside": lambda keys: Bad((bearer(keys.good[:30] + "\0" + keys.good[31:]),)),
    "CR LF": lambda keys: Bad((bearer(keys.good + "\r\n x: y"),)),
}
NAMES: Final = tuple(BAD)


def bad_ones(keys: Keys) -> list[tuple[str, Bad]]:
    """All of them, for a test whose rows cost more than its questions."""
    return [(name, make(keys)) for name, make in BAD.items()]
