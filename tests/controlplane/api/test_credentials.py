"""Bar K2 for the control API: every route × every credential that is none. Refused, changes
nothing, and a good session beside it does not help."""

from __future__ import annotations

import asyncio
import functools
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.kit import clock, json
from tenants import scope as scopes
from tenants.keys.models import ApiKey
from tenants.members.models import Membership
from tests.controlplane.api.conftest import Api, Home, error_of, signed_in, with_key
from tests.controlplane.api.test_matrix import ROWS, path_of
from tests.tenants.keys.bad_credentials import Header, Keys, bad_ones

pytestmark = pytest.mark.django_db


# Once: making it builds every middleware anew.
_application = functools.cache(get_asgi_application)


@functools.cache
def _handler() -> BaseHandler:
    made = BaseHandler()
    made.load_middleware()
    return made


def scope_of(
    method: str, path: str, headers: tuple[Header, ...], query: bytes = b"", body: bytes = b""
) -> dict[str, Any]:
    """As a server passes it on: header bytes untouched, whatever is in them."""
    return {
        "type": "http",
        "method": method.upper(),
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [
            (b"host", b"testserver"),
            (b"content-length", str(len(body)).encode()),
            (b"content-type", b"application/json"),
            *headers,
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
    }


def over_handler(
    method: str, path: str, headers: tuple[Header, ...], query: bytes = b"", body: bytes = b""
) -> tuple[int, dict[str, Any]]:
    """What `over_asgi` asks and gets, without its six changes of thread for each request."""
    asked = ASGIRequest(scope_of(method, path, headers, query, body), io.BytesIO(body))
    answer = _handler().get_response(asked)
    return answer.status_code, json.loads_dict(answer.content)


def over_asgi(
    method: str, path: str, headers: tuple[Header, ...], query: bytes = b"", body: bytes = b""
) -> tuple[int, dict[str, Any]]:
    application = _application()
    sent: list[dict[str, Any]] = []

    async def call() -> None:
        received = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if received:
                return received.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await application(scope_of(method, path, headers, query, body), receive, send)

    # The test's own connection outlives the request, as with Django's test client.
    signals = (request_started, request_finished)
    connected = [signal for signal in signals if signal.disconnect(close_old_connections)]
    try:
        async_to_sync(call)()
    finally:
        for signal in connected:
            signal.connect(close_old_connections)
    text = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads_dict(text)


def test_credentials_that_are_none(
    home: Home, elsewhere: Home, everything: Callable[[], Any]
) -> None:
    keys = Keys.make(tenant=home.tenant, other_tenant=elsewhere.tenant)
    session = signed_in(home.members["owner"].user).client.cookies[settings.SESSION_COOKIE_NAME]
    cookie = (b"cookie", f"{settings.SESSION_COOKIE_NAME}={session.value}".encode())
    before = everything()
    for name, bad in bad_ones(keys):
        for (route, method), row in ROWS.items():
            path = path_of(route, home.ids())
            body = json.dumps(row.body) if row.body is not None else b""
            headers = (*bad.headers, (b"if-match", b'"1"'))
            status, answer = over_handler(method, path, headers, bad.query, body)
            where = (name, route, method, status, answer)
            if bad.is_known_elsewhere:
                fine = {200, 403, 404} if row.least == "anybody" else {403, 404}
                assert status in fine, where
                assert "acme" not in json.dumps_str(answer), where
                continue
            assert status == 401, where
            assert answer["error"]["code"] in {"invalid_key", "not_authenticated"}, where
            if any(header.lower() in {b"authorization", b"x-api-key"} for header, _ in bad.headers):
                status, answer = over_handler(method, path, (*headers, cookie), bad.query, body)
                assert status == 401, (*where, "a bad key never falls back to the session")
        if bad.is_known_elsewhere:
            before = everything()
        assert everything() == before, name


def test_the_good_key_of_those_rows_is_good(home: Home, elsewhere: Home) -> None:
    keys = Keys.make(tenant=home.tenant, other_tenant=elsewhere.tenant)
    path = path_of("api-keys", home.ids())
    for header in (
        (b"authorization", b"Bearer " + keys.good.encode()),
        (b"x-api-key", keys.good.encode()),
    ):
        assert over_asgi("get", path, (header,))[0] == 200


def test_a_mistyped_key_costs_no_query(home: Home) -> None:
    path = path_of("api-keys", home.ids())
    api = Api(Client(), {"Authorization": "Bearer pcp_live_" + "0" * 12 + "_" + "a" * 49})
    with CaptureQueriesContext(connection) as captured:
        assert api("get", path).status_code == 401
    assert len(captured) == 0


def test_a_key_works_from_its_addresses_alone(home: Home) -> None:
    path = path_of("api-keys", home.ids())
    inside = with_key(home.tenant, allowed_networks=["127.0.0.0/8"])
    outside = with_key(home.tenant, allowed_networks=["203.0.113.0/24"])
    assert inside("get", path).status_code == 200
    refused = outside("get", path, x_forwarded_for="203.0.113.9")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "key_forbidden")


def test_a_revoked_key_is_refused_at_once(home: Home) -> None:
    path = path_of("api-keys", home.ids())
    api = with_key(home.tenant)
    assert api("get", path).status_code == 200
    own = next(item for item in api("get", path).json()["items"] if item["label"] == "control")
    assert api("post", f"{path}/{own['id']}/revoke").status_code == 200
    answer = api("get", path)
    assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_key")


def test_a_key_acts_as_its_member_and_never_as_an_owner(home: Home) -> None:
    keys = path_of("api-keys", home.ids())
    of_viewer = with_key(home.tenant, member=home.members["viewer"])
    assert of_viewer("post", keys, {"label": "x"}).status_code == 403
    of_member = with_key(home.tenant, member=home.members["member"])
    made = of_member("post", keys, {"label": "x"})
    assert made.status_code == 201
    assert made.json()["member_id"] == str(home.members["member"].id)
    assert of_member("post", f"{keys}/{home.key.id}/revoke").status_code == 403
    of_owner = with_key(home.tenant, member=home.members["owner"])
    owners = path_of("api-member", home.ids(member_id=home.members["owner"].id))
    assert of_owner("delete", owners, if_match='"1"').status_code == 403
    with scopes.tenant(home.tenant.id):
        Membership.objects.filter(pk=home.members["owner"].pk).update(role="viewer")
    assert of_owner("post", keys, {"label": "x"}).status_code == 403, "the role of now counts"


def test_last_use_is_noted_once_a_minute_and_moves_no_version(home: Home) -> None:
    api = with_key(home.tenant)
    path = path_of("api-keys", home.ids())

    def used() -> Any:
        with scopes.tenant(home.tenant.id):
            return ApiKey.objects.get(label="control")

    assert used().last_used_at is None
    api("get", path)
    first = used()
    assert clock.now() - first.last_used_at < timedelta(minutes=1)
    assert first.version == 1
    with CaptureQueriesContext(connection) as captured:
        api("get", path)
    assert not [query for query in captured if query["sql"].startswith("UPDATE")]


def test_what_a_key_changes_is_audited_as_the_key(home: Home) -> None:
    from tenants.audit.models import AuditEvent

    api = with_key(home.tenant)
    made = api("post", path_of("api-keys", home.ids()), {"label": "by a key"}).json()
    with scopes.tenant(home.tenant.id):
        event = AuditEvent.objects.get(action="key.created", target_id=made["id"])
        caller = ApiKey.objects.get(label="control")
    assert (event.actor_kind, event.actor_id) == ("key", str(caller.id))
    assert event.actor_label == str(caller)
    assert event.address == "127.0.0.1"
