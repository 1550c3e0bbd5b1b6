"""Every error in one shape, whatever raised it; what cannot be read is refused with a reason."""

from __future__ import annotations

import logging
import tracemalloc
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import SuspiciousOperation
from django.db import IntegrityError, OperationalError
from django.test import Client

from controlplane.api.view import BODY_LIMIT_BYTES
from controlplane.kit.errors import GatewayError
from tenants.members.models import Tenant, User
from tests.controlplane.api.conftest import V1, Api, Home, error_of

pytestmark = pytest.mark.django_db

TENANTS = f"{V1}/tenants"


@pytest.mark.parametrize(
    "path",
    [
        "/api/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/tenants",
        "/api/v1/nothing",
        "/api/v1/tenants/",
        "/api/v1/tenants//keys",
        "/api/v1/tenants/x/y/z",
        "/api/docs/x",
        "/api/schema",
    ],
)
@pytest.mark.parametrize("method", ["get", "post", "put", "delete", "options"])
def test_unknown_paths(anonymous: Api, path: str, method: str) -> None:
    if path == "/api":
        # Django adds the slash that the prefix ends with, or says that it would have.
        assert anonymous("get", path).status_code in {301, 404}
        return
    answer = anonymous(method, path)
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_path"
    assert "/api/docs/" in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("raw", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b"\xff\xfe", "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_json"),
        (b'"text"', "application/json", 400, "invalid_json"),
        (b"null", "application/json", 400, "invalid_json"),
        (b'{"slug": NaN}', "application/json", 400, "invalid_json"),
        (b'{"slug": Infinity}', "application/json", 400, "invalid_json"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "application/json", 400, "invalid_json"),
        (b'{"a":' * 90_000 + b"1" + b"}" * 90_000, "application/json", 400, "invalid_json"),
        (b"slug=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "", 415, "unsupported_media_type"),
        (b"--x\r\n", "multipart/form-data; boundary=x", 415, "unsupported_media_type"),
        (b"x" * (BODY_LIMIT_BYTES + 1), "application/json", 413, "request_too_large"),
        (b"", "application/json", 400, "invalid_request"),
        (b"{}", "application/json; charset=utf-8", 400, "invalid_request"),
        (b"{}", "APPLICATION/JSON", 400, "invalid_request"),
    ],
)
def test_bodies_that_cannot_be_read(
    as_staff: Api, raw: bytes, content_type: str, status: int, code: str
) -> None:
    answer = as_staff("post", TENANTS, raw=raw, content_type=content_type)
    assert answer.status_code == status, answer.content
    assert error_of(answer)["code"] == code


@pytest.mark.parametrize(
    ("meta", "status", "code"),
    [
        ({"CONTENT_LENGTH": "x"}, 400, "invalid_json"),
        ({"CONTENT_LENGTH": "-1"}, 400, "invalid_json"),
        ({"CONTENT_LENGTH": "9" * 30}, 400, "invalid_json"),
        ({"CONTENT_LENGTH": str(2**40)}, 413, "request_too_large"),
        ({"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}, 411, "length_required"),
        ({"HTTP_CONTENT_ENCODING": "gzip"}, 415, "unsupported_media_type"),
    ],
)
def test_headers_that_lie_about_the_body(
    as_staff: Api, meta: dict[str, str], status: int, code: str
) -> None:
    answer = as_staff.client.generic("POST", TENANTS, b"{}", "application/json", **meta)
    assert answer.status_code == status
    assert error_of(answer)["code"] == code


def test_a_large_body_is_refused_unread(as_staff: Api) -> None:
    body = b'{"slug": "' + b"a" * (8 * 1024 * 1024) + b'"}'
    tracemalloc.start()
    try:
        answer = as_staff("post", TENANTS, raw=body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < 2 * len(body), "the test client holds one copy; nobody made another two"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "No slug"}, "slug"),
        ({"slug": "Not A Slug", "name": "x"}, "slug"),
        ({"slug": "acme", "name": "Taken"}, "slug"),
        ({"slug": "fine", "name": ""}, "name"),
        ({"slug": "fine", "name": "x" * 121}, "name"),
        ({"slug": "fine", "name": "nul\0"}, "name"),
        ({"slug": "fine", "name": {"a": 1}}, "name"),
        ({"slug": "fine", "name": "x", "time_zone": "Mars/Olympus"}, "time_zone"),
        ({"slug": "fine", "name": "x", "time_zone": "../../etc/passwd"}, "time_zone"),
        ({"slug": "fine", "name": "x", "status": "active"}, "status"),
        ({"slug": "fine", "name": "x", "id": "1"}, "id"),
    ],
)
def test_bad_fields_are_named(
    as_staff: Api, tenant: Tenant, body: dict[str, Any], param: str
) -> None:
    answer = as_staff("post", TENANTS, body)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_request"
    assert error_of(answer)["param"] == param
    assert Tenant.objects.count() == 1


def test_bad_entries_of_lists_are_named(home: Home, admin: Api) -> None:
    path = f"{TENANTS}/{home.tenant.id}/keys"
    for body, param in (
        ({"label": "x", "scopes": ["proxy", "root"]}, "scopes.1"),
        ({"label": "x", "scopes": []}, "scopes"),
        ({"label": "x", "allowed_models": ["ok", None]}, "allowed_models.1"),
        ({"label": "x", "allowed_models": ["a b"]}, "allowed_models"),
        ({"label": "x", "allowed_networks": ["10.0.0.1/8"]}, "allowed_networks"),
        ({"label": "x", "expires_at": "2000-01-01T00:00:00Z"}, "expires_at"),
        ({"label": "x", "expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"label": "x", "expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
        ({"label": "x", "member_id": "not-an-id"}, "member_id"),
    ):
        answer = admin("post", path, body)
        assert answer.status_code == 400, (body, answer.content)
        assert error_of(answer)["param"] == param


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OperationalError("database is locked"), 503, "database_unavailable"),
        (IntegrityError("UNIQUE constraint failed"), 409, "conflict"),
        (SuspiciousOperation("odd"), 400, "invalid_json"),
        (RuntimeError("canary-in-the-message"), 500, "internal_error"),
        (GatewayError("unmapped"), 500, "internal_error"),
    ],
)
def test_what_goes_wrong_inside(
    as_staff: Api,
    tenant: Tenant,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    code: str,
) -> None:
    with (
        mock.patch("controlplane.api.tenants.access_tenant", side_effect=error),
        caplog.at_level(logging.ERROR, "controlplane.api.errors"),
    ):
        answer = as_staff("get", f"{TENANTS}/{tenant.id}")
    assert answer.status_code == status
    assert error_of(answer)["code"] == code
    assert b"canary" not in answer.content
    if isinstance(error, OperationalError):
        assert answer["Retry-After"] == "1"
    if isinstance(error, RuntimeError):
        assert "bug in the control API" in caplog.text
        assert "canary-in-the-message" in caplog.text, "the log has what the caller has not"


def test_what_django_itself_answers() -> None:
    answer = Client().get(f"{TENANTS}", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_json"
    page = Client().get("/accounts/login/", headers={"host": "evil.example"})
    assert page["Content-Type"].startswith("text/html"), "people still get pages"
    client = Client(raise_request_exception=False)
    with mock.patch("controlplane.api.view.ControlView.dispatch", side_effect=RuntimeError("boom")):
        answer = client.get(TENANTS)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"


def test_a_one_time_password_opens_no_api(home: Home, owner: Api) -> None:
    User.objects.filter(pk=home.members["owner"].user_id).update(must_change_password=True)
    answer = owner("get", TENANTS)
    assert answer.status_code == 403
    assert error_of(answer)["code"] == "password_change_required"


def test_the_request_id_is_the_callers_own(anonymous: Api) -> None:
    answer = anonymous("get", TENANTS, x_request_id="my-own-request-1")
    assert error_of(answer)["request_id"] == "my-own-request-1"


def test_answers_are_kept_nowhere(as_staff: Api, anonymous: Api, tenant: Tenant) -> None:
    for api, path in ((as_staff, TENANTS), (anonymous, TENANTS), (anonymous, "/api/nothing")):
        assert api("get", path)["Cache-Control"] == "no-store"


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*", "*/*;q=0.1", ";;;"])
def test_whatever_a_client_accepts_it_gets_json(as_staff: Api, accept: str) -> None:
    answer = as_staff("get", TENANTS, accept=accept)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
