"""Lists: pages, filters, and that neither is a way to ask about secrets or others' rows (T4)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.kit import clock
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import User
from tests.controlplane.api.conftest import V1, Api, Home, error_of, with_key

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def walk(api: Api, path: str, limit: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(100):
        page = api("get", f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}").json()
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = f"&cursor={page['next_cursor']}"
    raise AssertionError("a list without an end")


def test_pages_hold_every_row_once_while_rows_are_added(home: Home, admin: Api) -> None:
    path = f"{V1}/tenants/{home.tenant.id}/keys"

    def make(number: int) -> None:
        with acting_as("command", None, "tests"), scopes.tenant(home.tenant.id):
            create_key(tenant=home.tenant, label=f"key {number}")

    for number in range(7):
        make(number)
    whole = [item["id"] for item in walk(admin, path, 200)]
    assert len(whole) == 9
    assert [item["id"] for item in walk(admin, path, 1)] == whole
    assert [item["id"] for item in walk(admin, path, 4)] == whole
    first = admin("get", f"{path}?limit=4").json()
    make(8)
    rest = admin("get", f"{path}?limit=200&cursor={first['next_cursor']}").json()["items"]
    assert [item["id"] for item in first["items"] + rest] == whole


@pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "1.5", "9" * 30, "", "١"])
def test_limits_that_are_none(home: Home, admin: Api, limit: str) -> None:
    answer = admin("get", f"{V1}/tenants/{home.tenant.id}/keys?limit={limit}")
    assert (answer.status_code, error_of(answer)["param"]) == (400, "limit")


@pytest.mark.parametrize("cursor", ["", "x", "1", "%00", "0" * 32, "'--", "9" * 30])
@pytest.mark.parametrize("path", ["keys", "members", "invitations", "audit/events"])
def test_cursors_that_are_none(home: Home, admin: Api, path: str, cursor: str) -> None:
    answer = admin("get", f"{V1}/tenants/{home.tenant.id}/{path}?cursor={cursor}")
    if path == "audit/events" and cursor in {"1", "0" * 32}:
        assert answer.status_code == (200 if cursor == "1" else 400)
        return
    assert (answer.status_code, error_of(answer)["param"]) == (400, "cursor")


def test_filters(home: Home, elsewhere: Home, admin: Api, as_staff: Api) -> None:
    base = f"{V1}/tenants/{home.tenant.id}"

    def found(api: Api, path: str, name: str) -> set[Any]:
        answer = api("get", path)
        assert answer.status_code == 200, answer.content
        return {item[name] for item in answer.json()["items"]}

    assert found(admin, f"{base}/keys?state=active", "label") == {"acme shared", "acme own"}
    assert found(admin, f"{base}/keys?label=OWN", "label") == {"acme own"}
    assert found(admin, f"{base}/keys?member_id={home.members['member'].id}", "label") == {
        "acme own"
    }
    assert not found(admin, f"{base}/keys?member_id={elsewhere.members['member'].id}", "label")
    admin("post", f"{base}/keys/{home.key.id}/rotate", {"overlap_seconds": 60})
    assert found(admin, f"{base}/keys?state=rotated", "id") == {str(home.key.id)}
    admin("post", f"{base}/keys/{home.key.id}/revoke")
    assert found(admin, f"{base}/keys?state=revoked", "id") == {str(home.key.id)}
    assert not found(admin, f"{base}/keys?state=expired", "id")
    assert found(admin, f"{base}/members?role=owner", "role") == {"owner"}
    assert found(admin, f"{base}/members?email=VIEWER@acme.test", "role") == {"viewer"}
    assert found(admin, f"{base}/invitations?is_open=true", "email") == {"new@acme.test"}
    assert not found(admin, f"{base}/invitations?is_open=false", "email")
    assert found(as_staff, f"{V1}/tenants?slug=acme", "slug") == {"acme"}
    assert not found(as_staff, f"{V1}/tenants?status=closing", "slug")
    assert found(admin, f"{base}/audit/events?action=key.revoked", "action") == {"key.revoked"}
    assert found(
        admin, f"{base}/audit/events?actor_kind=user&target_id={home.key.id}", "action"
    ) == {
        "key.rotated",
        "key.revoked",
    }
    soon = (clock.now() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert not found(admin, f"{base}/audit/events?since={soon}", "id")
    assert found(admin, f"{base}/audit/events?until={soon}", "id")
    only = found(as_staff, f"{V1}/audit/events?tenant_id={elsewhere.tenant.id}", "chain")
    assert only == {str(elsewhere.tenant.id)}


@pytest.mark.parametrize(
    "query",
    [
        "state=unheard-of",
        "member_id=x",
        "label=%00",
        "state=active&state=nothing",
    ],
)
def test_filters_that_ask_for_nothing(home: Home, admin: Api, query: str) -> None:
    answer = admin("get", f"{V1}/tenants/{home.tenant.id}/keys?{query}")
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_request"


@pytest.mark.parametrize(
    "moment",
    ["x", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "99999-01-01", "%00"],
)
def test_times_that_are_none(home: Home, admin: Api, moment: str) -> None:
    answer = admin("get", f"{V1}/tenants/{home.tenant.id}/audit/events?since={moment}")
    assert (answer.status_code, error_of(answer)["param"]) == (400, "since")


COLUMNS = [
    "digest",
    "digest__startswith",
    "pepper_name",
    "password",
    "user__password__startswith",
    "member__user__password",
    "tenant",
    "tenant__slug",
    "tenant_id",
    "tenant__id__in",
    "id__gt",
    "pk",
    "ordering",
    "order_by",
    "sort",
    "search",
    "fields",
    "expand",
    "include",
    "format",
    "after_json__contains",
    "label__regex",
    "email__startswith",
    "user__email__contains",
    "version__gte",
    "_",
]


@pytest.mark.parametrize("column", COLUMNS)
def test_no_parameter_asks_about_a_column_that_no_filter_offers(
    home: Home, admin: Api, as_staff: Api, column: str
) -> None:
    base = f"{V1}/tenants/{home.tenant.id}"
    for path in ("/keys", "/members", "/invitations", "/audit/events", "", f"/keys/{home.key.id}"):
        said = set()
        for value in ("a", "0", "pbkdf2", str(home.tenant.id), "md5$"):
            answer = admin("get", f"{base}{path}?{column}={value}")
            assert answer.status_code == 400, (path, column)
            assert error_of(answer)["code"] == "unknown_parameter"
            said.add(error_of(answer)["message"])
        assert len(said) == 1, "the answer must not depend on the value"
    assert as_staff("get", f"{V1}/tenants?{column}=a").status_code == 400


def test_no_answer_holds_a_digest_or_a_password(
    home: Home, admin: Api, as_staff: Api, staff: User
) -> None:
    with scopes.platform("test"):
        hidden = [bytes(home.key.digest).hex(), home.key.pepper_name, staff.password]
        hidden += [member.user.password for member in home.members.values()]
    base = f"{V1}/tenants/{home.tenant.id}"
    for api in (admin, as_staff):
        for path in (
            f"{V1}/tenants",
            base,
            f"{base}/keys",
            f"{base}/keys/{home.key.id}",
            f"{base}/members",
            f"{base}/invitations",
            f"{base}/audit/events",
        ):
            answer = api("get", path)
            assert answer.status_code == 200
            for secret in hidden:
                assert secret.encode() not in answer.content


def test_two_tenants_interleaved_never_mix(home: Home, elsewhere: Home) -> None:
    """Part of bar T3: 200 requests by turns, each with its own tenant's answers only."""
    callers = [
        (with_key(home.tenant), home, "acme", "globex"),
        (with_key(elsewhere.tenant), elsewhere, "globex", "acme"),
    ]
    for number in range(100):
        for api, place, own, other in callers:
            path = ("keys", "members", "invitations", "audit/events")[number % 4]
            answer = api("get", f"{V1}/tenants/{place.tenant.id}/{path}")
            assert answer.status_code == 200
            assert own.encode() in answer.content
            assert other.encode() not in answer.content
