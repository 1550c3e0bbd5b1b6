"""Bars C3 and A6: 200 secrets go in by every way there is; none of them is found anywhere after."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from controlplane.kit.secret import Secret
from controlplane.logs import formatter
from providers.catalog import services
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Membership, User
from tenants.members.services import add_member
from tenants.vault import services as vault
from tests.database_file import database_bytes
from tests.running import served
from tests.security.arena import Arena
from tests.security.dialects import DIALECTS

pytestmark = pytest.mark.storage

COUNT = 200
HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie")


class Canaries:
    """Secrets by the way each went in. Characters that every encoding treats its own way."""

    def __init__(self) -> None:
        self.ways: dict[str, str] = {}

    def new(self, way: str, ending: str = '+/%"\\é&=') -> str:
        # What is looked for begins with random characters, so that its first twelve are its own.
        value = secrets.token_hex(12) + ending
        self.ways[value] = way
        return value

    def keep(self, value: str, way: str) -> None:
        self.ways[value] = way


def forms(value: str) -> dict[str, bytes]:
    """How a secret may be written. It begins with letters and digits, so that its first twelve
    characters are found in the plain, the URL-quoted and the JSON-escaped form alike. Base64
    depends on what stands before it: three ways."""
    begin = value.encode()[:12]
    found = {
        "as text": begin,
        "hex": begin.hex().encode(),
        "HEX": begin.hex().upper().encode(),
    }
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + value.encode()[:18])
        # Only the characters that depend on nothing beside it.
        found[f"base64, shifted by {shift}"] = text[(0, 2, 3)[shift] : 20]
    return found


def found_in(place: bytes, canaries: Canaries) -> list[tuple[str, str]]:
    return [
        (way, form)
        for value, way in canaries.ways.items()
        for form, written in forms(value).items()
        if written in place
    ]


class Tattler:
    """A vendor that answers with all it was told: headers, query and body."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        told = " ".join(f"{name.decode()}: {value.decode()}" for name, value in scope["headers"])
        answer = json.dumps({"error": {"message": f"not you: {told}", "type": told, "code": told}})
        headers = [
            (b"content-type", b"application/json"),
            (b"x-ratelimit-of", told.encode("ascii", "replace")),
            (b"set-cookie", told.encode("ascii", "replace")),
        ]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": answer.encode()})


@pytest.fixture
def debug_log() -> Iterator[io.StringIO]:
    """Every line of every logger, as production writes them."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(formatter(layout="json"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@contextlib.contextmanager
def as_platform() -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


class Api:
    """The control API as a tenant's admin uses it. Keeps what it answered."""

    def __init__(self, client: Client, replies: list[bytes]) -> None:
        self._client = client
        self._replies = replies

    def __call__(
        self, method: str, path: str, body: Any = None, *, kept: bool = True, **headers: str
    ) -> Any:
        answer = getattr(self._client, method)(
            f"/api/v1/{path}",
            data=None if body is None else json.dumps(body),
            content_type="application/json",
            headers=headers,
        )
        if kept:
            self._replies.append(answer.content + str(dict(answer.headers)).encode())
        return answer


def by_the_api(arena: Arena, canaries: Canaries, tattler: str) -> list[bytes]:
    """Credentials, sealed headers and keys, made, repeated and changed by a tenant's admin."""
    replies: list[bytes] = []
    with as_platform():
        user = User.objects.create_user(f"{secrets.token_hex(4)}@example.com")
        add_member(tenant=arena.tenant, user=user, role=Membership.Role.ADMIN)
    client = Client()
    client.force_login(user)
    api = Api(client, replies)
    for number in range(10):
        made = api(
            "post",
            f"tenants/{arena.tenant.id}/providers",
            {
                "slug": f"canary{number}",
                "protocol": "openai-completions",
                "base_url": f"{tattler}/v1",
                "secret_headers": {
                    "X-Team": canaries.new("sealed header by API", "+/%"),
                },
            },
        )
        assert made.status_code == 201, made.content
        provider = f"providers/{made.json()['id']}"
        assert api("post", f"{provider}/models", {"upstream_id": f"canary{number}"}).status_code
        body = {
            "label": "one",
            "secret": canaries.new("credential by API", "+/%"),
        }
        again = {"Idempotency-Key": secrets.token_hex(8)}
        for _ in range(2):
            kept = api("post", f"{provider}/credentials", body, **again)
            assert kept.status_code == 201, kept.content
        changed = api(
            "patch",
            f"{provider}/credentials/{kept.json()['id']}",
            {"secret": canaries.new("changed credential by API", "+/%")},
            **{"If-Match": kept["ETag"]},
        )
        assert changed.status_code == 200, changed.content
        # Refused, with the secret in the body and in the address.
        bad = canaries.new("refused by API")
        assert (
            api("post", f"{provider}/credentials", {"secret": bad, "label": ""}).status_code == 400
        )
        for path in ("", "/credentials", "/effective", "/checks"):
            assert api("get", provider + path).status_code == 200
    for number in range(10):
        again = {"Idempotency-Key": secrets.token_hex(8)}
        for _ in range(2):
            made = api(
                "post",
                f"tenants/{arena.tenant.id}/keys",
                {"label": f"key {number}"},
                kept=False,
                **again,
            )
            assert made.status_code == 201, made.content
        # Typed prefix and public id are shown on purpose: what follows them is the secret.
        canaries.keep(made.json()["secret"].rpartition("_")[2], "key by API")
    for path in ("keys", "audit/events", "members", "providers"):
        replies.append(api("get", f"tenants/{arena.tenant.id}/{path}").content)
    replies.append(client.get("/api/schema/").content)
    return replies


def by_the_services(arena: Arena, canaries: Canaries) -> None:
    with as_platform():
        for number in range(20):
            provider = services.register(
                slug=f"held{number}",
                protocol="openai-completions",
                base_url=f"{arena.vendors}/openai/v1",
                secret_headers={"X-Own": Secret(canaries.new("sealed header", "+/%"))},
            )
            store_key(
                provider=provider,
                label="one",
                secret=Secret(canaries.new("stored credential", "+/%")),
            )
            user = User.objects.create_user(f"{secrets.token_hex(4)}@example.com")
            user.set_password(canaries.new("password"))
            user.save()
        _, key = create_key(tenant=arena.tenant, label="made by a service")
        canaries.keep(key.reveal().rpartition("_")[2], "key by service")
        for _ in range(20):
            place: dict[str, Any] = {
                "tenant_id": arena.tenant.id,
                "model": "tests.row",
                "row_id": uuid.uuid4(),
                "field": "field",
            }
            sealed = vault.seal(**place, secret=Secret(canaries.new("sealed by hand")))
            assert vault.unseal(**place, sealed=sealed)


def by_wrong_keys(arena: Arena, canaries: Canaries) -> list[bytes]:
    """Keys that open nothing, at every door; and passwords that are none."""
    replies = []
    with httpx.Client(base_url=arena.url) as client:
        for number in range(30):
            dialect = DIALECTS[number % len(DIALECTS)]
            path, body = dialect.ask(dialect.own_model)
            name = HEADERS[number % len(HEADERS)]
            value = canaries.new(f"wrong key in {name}", "+/%")
            shown = f"Bearer {value}" if name == "authorization" else value
            answer = client.post(path, json=body, headers={name: shown})
            assert answer.status_code == 401, answer.text
            replies.append(answer.content + str(answer.headers).encode())
            query = canaries.new("wrong key in the query", "+/%")
            answer = client.get(f"/v1beta/models?key={quote(query)}")
            assert answer.status_code in (400, 401), answer.text
            replies.append(answer.content)
        for _ in range(10):
            value = canaries.new("wrong key at the control API", "+/%")
            answer = client.get("/api/v1/tenants", headers={"authorization": f"Bearer {value}"})
            assert answer.status_code == 401
            replies.append(answer.content)
    browser = Client(REMOTE_ADDR="192.0.2.77")
    for _ in range(3):
        login = {"login": "nobody@example.com", "password": canaries.new("wrong password")}
        replies.append(browser.post(reverse("account_login"), login).content)
    return replies


def by_prompts(arena: Arena, canaries: Canaries) -> None:
    """What people ask is answered, and kept nowhere."""
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for number in range(24):
            dialect = DIALECTS[number % len(DIALECTS)]
            model = dialect.own_model if number % 3 else "sim-nova"
            path, body = dialect.ask(model, canaries.new("prompt"), stream=number % 2 == 1)
            assert client.post(path, json=body).status_code == 200


def by_a_vendor_that_tells(arena: Arena) -> list[bytes]:
    replies = []
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for number in range(10):
            for dialect in DIALECTS:
                path, body = dialect.ask(f"canary{number}/canary{number}")
                answer = client.post(path, json=body)
                assert answer.status_code >= 400
                assert "canary-header" not in answer.text
                replies.append(answer.content + str(answer.headers).encode())
    return replies


def pages_of_the_console() -> list[bytes]:
    with as_platform():
        staff = User.objects.create_user(f"{secrets.token_hex(4)}@example.com", is_staff=True)
        staff.is_superuser = True
        staff.save()
    client = Client(REMOTE_ADDR="192.0.2.5")
    client.force_login(staff)
    found = []
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        listed = client.get(reverse(f"{name}_changelist"))
        assert listed.status_code == 200, name
        found.append(listed.content)
        with as_platform():
            rows = list(model._default_manager.all()[:10])
        found += [client.get(reverse(f"{name}_change", args=[row.pk])).content for row in rows]
    found.append(client.get(reverse("admin:index")).content)
    return found


def database() -> bytes:
    """What is on the disk, and what a dump would hold."""
    dumped = io.StringIO()
    with as_platform():
        call_command("dumpdata", stdout=dumped, verbosity=0, use_base_manager=True)
        rows = []
        with connection.cursor() as cursor:
            for model in apps.get_models(include_auto_created=True):
                table = connection.ops.quote_name(model._meta.db_table)
                cursor.execute(f"SELECT * FROM {table}")
                rows += [
                    bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    for row in cursor.fetchall()
                    for value in row
                ]
    files = b""
    if connection.vendor == "sqlite":
        files = database_bytes()
    return dumped.getvalue().encode() + b"\0".join(rows) + files


def redis() -> bytes:
    if not settings.REDIS_URL:
        return b""
    from redis import Redis

    client = Redis.from_url(settings.REDIS_URL)
    try:
        keys = client.keys("*")
        return b"\0".join([*keys, *(client.dump(key) or b"" for key in keys)])
    finally:
        client.close()


def arguments_of_processes() -> bytes:
    found = b""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += file.read_bytes()
    return found


def test_the_search_finds_every_form() -> None:
    canaries = Canaries()
    value = canaries.new("known")
    data = value.encode()
    for hidden in (
        data,
        base64.b64encode(b"Basic:" + data + b":more"),
        base64.urlsafe_b64encode(b"a" + data),
        base64.b64encode(b"ab" + data),
        quote(value, safe="").encode(),
        json.dumps({"a": value}).encode(),
        data.hex().encode(),
        data[:12],
    ):
        assert found_in(b"before" + hidden + b"after", canaries), hidden


def test_two_hundred_secrets_are_found_nowhere(
    fast_lane: Arena, debug_log: io.StringIO, settings: Any
) -> None:
    canaries = Canaries()
    settings.UPSTREAM_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = ["127.0.0.0/8"]
    with served(Tattler(), lifespan="off") as tattler:
        by_the_services(fast_lane, canaries)
        replies = by_the_api(fast_lane, canaries, tattler)
        assert fast_lane.state is not None
        fast_lane.state.tables.forget()
        replies += by_wrong_keys(fast_lane, canaries)
        replies += by_a_vendor_that_tells(fast_lane)
    by_prompts(fast_lane, canaries)
    pages = pages_of_the_console()
    assert len(canaries.ways) >= COUNT
    lines = debug_log.getvalue()
    assert "proxied" in lines
    places = {
        "replies": b"\0".join(replies),
        "pages": b"\0".join(pages),
        "log": lines.encode(),
        "database": database(),
        "redis": redis(),
        "arguments": arguments_of_processes(),
    }
    hits = {name: found_in(place, canaries) for name, place in places.items()}
    assert {name: hit for name, hit in hits.items() if hit} == {}
