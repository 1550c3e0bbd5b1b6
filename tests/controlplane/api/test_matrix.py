"""Bar T1 for the control API: every route × method × everybody who might try it.

The routes come from the URL configuration; one without a row here fails the suite. Strangers
change nothing, read nothing, and cannot tell a foreign id from one that never was.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tenants import scope as scopes
from tenants.members.models import Membership, Tenant, User
from tests.controlplane.api.conftest import Api, Home, error_of, signed_in, with_key
from tests.controlplane.api.logins import rows as logins
from tests.controlplane.api.providers import rows as registry

pytestmark = pytest.mark.django_db

METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
ROLES = ("viewer", "member", "admin", "owner")


@dataclass(frozen=True)
class Row:
    """`least`: the least of ROLES that may; `staff`: only platform staff; `anybody`: everybody who
    is somebody, and sees what is theirs."""

    least: str
    status: int = 200
    body: Any = None
    # Answers that depend on more than the role, with their reason.
    otherwise: dict[int, str] | None = None
    has_precondition: bool = False
    # Of the row in its home.
    version: int = 1


ROWS: dict[tuple[str, str], Row] = {
    ("api-tenants", "get"): Row("anybody"),
    ("api-tenants", "post"): Row("staff", 201, {"slug": "initech", "name": "Initech"}),
    ("api-tenant", "get"): Row("viewer"),
    ("api-tenant", "patch"): Row("admin", 200, {"name": "New name"}, has_precondition=True),
    ("api-tenant-status", "post"): Row("staff", 200, {"status": "suspended"}),
    ("api-members", "get"): Row("viewer"),
    ("api-member", "get"): Row("viewer"),
    ("api-member", "patch"): Row("admin", 200, {"role": "member"}, has_precondition=True),
    ("api-member", "delete"): Row("admin", 204, has_precondition=True),
    ("api-invitations", "get"): Row("viewer"),
    ("api-invitations", "post"): Row("admin", 201, {"email": "x@x.test", "role": "viewer"}),
    ("api-invitation", "get"): Row("viewer"),
    ("api-invitation-withdraw", "post"): Row("admin"),
    ("api-invitation-accept", "post"): Row(
        "anybody", 201, {"token": "none"}, otherwise={404: "the token is none"}
    ),
    ("api-keys", "get"): Row("viewer"),
    ("api-keys", "post"): Row("member", 201, {"label": "new"}),
    ("api-key", "get"): Row("viewer"),
    ("api-key", "patch"): Row("admin", 200, {"label": "renamed"}, has_precondition=True),
    ("api-key-rotate", "post"): Row("admin", 201, {"overlap_seconds": 60}),
    ("api-key-revoke", "post"): Row("admin"),
    ("api-tenant-events", "get"): Row("admin"),
    ("api-tenant-event", "get"): Row("admin"),
    ("api-tenant-audit-head", "get"): Row("admin"),
    ("api-tenant-audit-verify", "post"): Row("admin", 200, {}),
    ("api-limits", "get"): Row("viewer"),
    ("api-limits", "post"): Row(
        "admin", 201, {"scope_kind": "tenant", "kind": "tokens", "period": "day", "amount": 5}
    ),
    ("api-limit", "get"): Row("viewer"),
    ("api-limit", "patch"): Row("admin", 200, {"amount": 7}, has_precondition=True),
    ("api-limit", "delete"): Row("admin", 204, has_precondition=True),
    ("api-usage-policy", "get"): Row("viewer"),
    ("api-usage-policy", "patch"): Row(
        "admin", 200, {"reservation": "none"}, has_precondition=True
    ),
    ("api-platform-usage-policy", "get"): Row("staff"),
    ("api-platform-usage-policy", "patch"): Row(
        "staff", 200, {"mark_up": 100}, has_precondition=True
    ),
    ("api-platform-limits", "get"): Row("staff"),
    ("api-platform-limits", "post"): Row(
        "staff", 201, {"scope_kind": "platform", "kind": "tokens", "period": "day", "amount": 5}
    ),
    ("api-platform-limit", "get"): Row("staff"),
    ("api-platform-limit", "patch"): Row("staff", 200, {"amount": 7}, has_precondition=True),
    ("api-platform-limit", "delete"): Row("staff", 204, has_precondition=True),
    ("api-usage-events", "get"): Row("viewer"),
    ("api-usage-report", "get"): Row("viewer"),
    ("api-platform-usage-report", "get"): Row("staff"),
    ("api-usage-movers", "get"): Row("viewer"),
    ("api-usage-errors", "get"): Row("viewer"),
    ("api-usage-budgets", "get"): Row("viewer"),
    ("api-usage-export", "get"): Row("viewer"),
    ("api-usage-statement", "get"): Row("viewer"),
    ("api-usage-verify", "post"): Row("viewer", 200, {}),
    ("api-usage-corrections", "post"): Row(
        "staff",
        201,
        {"request_id": "none", "charge_nanos": -1, "reason": "refund"},
        otherwise={404: "the request is none"},
    ),
    ("api-alerts", "get"): Row("viewer"),
    ("api-alert-receivers", "get"): Row("admin"),
    ("api-alert-receivers", "post"): Row(
        "admin",
        201,
        {"label": "more", "channel": "webhook", "address": "https://hooks.example.com/a"},
    ),
    ("api-alert-receiver", "get"): Row("admin"),
    ("api-alert-receiver", "patch"): Row("admin", 200, {"is_on": False}, has_precondition=True),
    ("api-alert-receiver", "delete"): Row("admin", 204, has_precondition=True),
    ("api-alert-receiver-test", "post"): Row("admin", 202),
    ("api-alert-receiver-secret", "post"): Row("admin", 201, {"overlap_seconds": 60}),
    ("api-platform-alerts", "get"): Row("staff"),
    ("api-platform-alert-receivers", "get"): Row("staff"),
    ("api-platform-alert-receivers", "post"): Row(
        "staff", 201, {"label": "more", "channel": "email", "address": "ops@platform.test"}
    ),
    ("api-platform-alert-receiver", "get"): Row("staff"),
    ("api-platform-alert-receiver", "patch"): Row(
        "staff", 200, {"is_on": False}, has_precondition=True
    ),
    ("api-platform-alert-receiver", "delete"): Row("staff", 204, has_precondition=True),
    ("api-platform-alert-receiver-test", "post"): Row("staff", 202),
    ("api-platform-alert-receiver-secret", "post"): Row("staff", 201, {"overlap_seconds": 60}),
    ("api-events", "get"): Row("staff"),
    ("api-audit-heads", "get"): Row("staff"),
    ("api-audit-verify", "post"): Row("staff", 200, {}),
    **{place: Row(**values) for place, values in registry.ROWS.items()},
    **{place: Row(**values) for place, values in logins.ROWS.items()},
}
# Below /api/ and not of the control API: public pages and the answer to everything else.
OPEN = {"api-schema", "api-docs", "api-no-such-path"}
NAMES = sorted({name for name, _ in ROWS})
IN_A_TENANT = [(name, method) for name, method in ROWS if ROWS[name, method].least in ROLES]


def routes() -> dict[str, URLPattern]:
    def walk(patterns: list[Any]) -> list[URLPattern]:
        return [
            found
            for entry in patterns
            for found in (walk(entry.url_patterns) if isinstance(entry, URLResolver) else [entry])
        ]

    resolver = next(
        entry
        for entry in get_resolver().url_patterns
        if isinstance(entry, URLResolver) and str(entry.pattern) == "api/"
    )
    return {str(pattern.name): pattern for pattern in walk(resolver.url_patterns)}


def methods_of(pattern: URLPattern) -> set[str]:
    view = pattern.callback.cls  # type: ignore[attr-defined]  # a class-based view's
    return {name for name in view.http_method_names if name != "head" and hasattr(view, name)}


def path_of(name: str, ids: dict[str, str]) -> str:
    wanted = routes()[name].pattern.converters
    return reverse(name, kwargs={key: ids[key] for key in wanted})


def send(api: Api, name: str, method: str, ids: dict[str, str]) -> Any:
    row = ROWS.get((name, method), Row("viewer"))
    headers = {"If-Match": f'"{row.version}"'} if row.has_precondition else {}
    return api(method, path_of(name, ids), row.body, **headers)


def told(answer: Any) -> tuple[int, Any]:
    """What a caller learns from an error, but for the id that each request has."""
    return answer.status_code, {**error_of(answer), "request_id": ""}


@contextmanager
def undone() -> Iterator[None]:
    """What happens inside leaves no row behind, so that each row of the matrix meets the same."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_every_route_has_a_row_for_each_of_its_methods() -> None:
    found = {
        (name, method)
        for name, pattern in routes().items()
        if name not in OPEN
        for method in methods_of(pattern)
    }
    assert found == set(ROWS)
    assert None not in routes(), "a route without a name cannot be listed"


def test_other_methods_are_refused_for_everybody(
    home: Home, as_staff: Api, anonymous: Api, everything: Callable[[], Any]
) -> None:
    callers = (as_staff, anonymous, with_key(home.tenant))
    before = everything()
    for name in NAMES:
        offered = {method for other, method in ROWS if other == name}
        offered |= {"head"} if "get" in offered else set()
        for method in set(METHODS) - offered:
            for api in callers:
                answer = api(method, path_of(name, home.ids()))
                assert answer.status_code in {401, 403, 405}, (name, method, answer.status_code)
                if method != "head":
                    assert error_of(answer)["code"] in {
                        "method_not_allowed",
                        "not_authenticated",
                        "staff_only",
                    }
                if answer.status_code == 405:
                    allowed = {word.strip().lower() for word in answer["Allow"].split(",")}
                    assert allowed == offered, name
    assert everything() == before


def test_nobody_is_anybody_without_a_credential(
    home: Home, anonymous: Api, everything: Callable[[], Any]
) -> None:
    before = everything()
    for name, method in ROWS:
        for ids in (home.ids(), home.ids(**dict.fromkeys(home.ids(), uuid.uuid4()))):
            answer = send(anonymous, name, method, ids)
            assert answer.status_code == 401, (name, method)
            assert error_of(answer)["code"] == "not_authenticated"
            assert answer["WWW-Authenticate"] == "Bearer"
    assert everything() == before


def strangers(home: Home, elsewhere: Home) -> dict[str, Api]:
    """Everybody who has no business in `home`."""
    people = {f"other tenant's {role}": signed_in(elsewhere.members[role].user) for role in ROLES}
    people["other tenant's managing key"] = with_key(elsewhere.tenant)
    people["other tenant's reading key"] = with_key(elsewhere.tenant, ["read"])
    people["other tenant's owner's key"] = with_key(
        elsewhere.tenant, member=elsewhere.members["owner"]
    )
    people["member of nothing"] = signed_in(User.objects.create_user("nobody@test.test"))
    return people


@pytest.mark.storage
def test_strangers_read_and_change_nothing_and_cannot_tell_foreign_from_missing(
    home: Home, elsewhere: Home, everything: Callable[[], Any]
) -> None:
    outsiders = strangers(home, elsewhere)
    before = everything()
    missing = {key: str(uuid.uuid4()) for key in home.ids()}
    malformed = dict.fromkeys(home.ids(), "not-an-id")
    for name, method in IN_A_TENANT:
        said = {
            str(told(send(api, name, method, ids)))
            for api in outsiders.values()
            for ids in (home.ids(), missing, malformed)
        }
        assert len(said) == 1, (name, method, said)
        assert next(iter(said)).startswith("(404"), (name, method, said)
    assert everything() == before


@pytest.mark.storage
def test_a_row_is_found_under_its_own_tenant_alone(
    home: Home, elsewhere: Home, staff: User, everything: Callable[[], Any]
) -> None:
    own = signed_in(home.members["owner"].user)
    both = User.objects.create_user("both@test.test")
    for place in (home, elsewhere):
        with scopes.tenant(place.tenant.id):
            Membership.objects.create(tenant=place.tenant, user=both, role="owner")
    callers = (own, signed_in(both), signed_in(staff), with_key(home.tenant))
    before = everything()
    theirs_under_mine = elsewhere.ids(tenant_id=home.tenant.id)
    mine_under_theirs = home.ids(tenant_id=elsewhere.tenant.id)
    missing = {**home.ids(), **{k: str(uuid.uuid4()) for k in home.ids() if k != "tenant_id"}}
    of_a_row = [
        row
        for row in IN_A_TENANT
        if "tenant_id" in (names := routes()[row[0]].pattern.converters) and len(names) > 1
    ]
    assert len(of_a_row) > 5
    for name, method in of_a_row:
        said = {
            str(told(send(api, name, method, ids)))
            for api in callers
            for ids in (theirs_under_mine, mine_under_theirs, missing)
        }
        assert len(said) == 1, (name, method, said)
        assert next(iter(said)).startswith("(404"), (name, method, said)
    assert everything() == before


@pytest.mark.storage
@pytest.mark.parametrize("role", ROLES)
def test_roles_in_ones_own_tenant(role: str, home: Home, everything: Callable[[], Any]) -> None:
    api = signed_in(home.members[role].user)
    before = everything()
    for (name, method), row in ROWS.items():
        may = row.least == "anybody" or (
            row.least in ROLES and ROLES.index(role) >= ROLES.index(row.least)
        )
        if may:
            with undone():
                answer = send(api, name, method, home.ids())
            allowed = {row.status, *(row.otherwise or {})}
            assert answer.status_code in allowed, (name, method, answer.content)
        else:
            answer = send(api, name, method, home.ids())
            assert answer.status_code == 403, (name, method, answer.content)
            assert error_of(answer)["code"] in {"role_forbidden", "staff_only"}
    assert everything() == before


@pytest.mark.storage
def test_platform_staff_reach_everything(home: Home, as_staff: Api) -> None:
    for (name, method), row in ROWS.items():
        with undone():
            answer = send(as_staff, name, method, home.ids())
        allowed = {row.status, *(row.otherwise or {})}
        assert answer.status_code in allowed, (name, method, answer.content)


@pytest.mark.storage
def test_a_managing_key_is_an_admin_and_a_reading_key_changes_nothing(
    home: Home, everything: Callable[[], Any]
) -> None:
    manage, read = with_key(home.tenant), with_key(home.tenant, ["read"])
    proxy = with_key(home.tenant, ["proxy"])
    before = everything()
    for (name, method), row in ROWS.items():
        refused = send(proxy, name, method, home.ids())
        assert (refused.status_code, error_of(refused)["code"]) == (403, "key_forbidden")
        answer = send(read, name, method, home.ids())
        is_reading = method == "get" or name in {
            "api-tenant-audit-verify",
            "api-usage-verify",
        }
        allowed = {row.status, *(row.otherwise or {})}
        if row.least != "staff" and is_reading:
            assert answer.status_code in allowed, (name, method, answer.content)
        else:
            assert answer.status_code == 403, (name, method, answer.content)
            error_of(answer)
        with undone():
            answer = send(manage, name, method, home.ids())
        if row.least == "staff" or name == "api-invitation-accept":
            assert answer.status_code == 403, (name, method)
            assert error_of(answer)["code"] in {"staff_only", "people_only"}
        else:
            assert answer.status_code in allowed, (name, method, answer.content)
    assert everything() == before


@pytest.mark.storage
def test_lists_hold_ones_own(home: Home, elsewhere: Home, as_staff: Api) -> None:
    def slugs(api: Api) -> set[str]:
        return {item["slug"] for item in api("get", reverse("api-tenants")).json()["items"]}

    assert slugs(as_staff) == {"acme", "globex"}
    assert slugs(signed_in(home.members["viewer"].user)) == {"acme"}
    assert slugs(with_key(elsewhere.tenant, ["read"])) == {"globex"}
    assert slugs(signed_in(User.objects.create_user("nobody@test.test"))) == set()
    for name in ("api-members", "api-keys", "api-invitations", "api-tenant-events"):
        answer = as_staff("get", path_of(name, home.ids()))
        assert answer.json()["items"]
        assert b"globex" not in answer.content
        assert str(elsewhere.tenant.id).encode() not in answer.content


@pytest.mark.storage
def test_a_suspended_tenant_is_read_by_its_people_changed_by_nobody_and_its_keys_stop(
    home: Home, as_staff: Api, everything: Callable[[], Any]
) -> None:
    key = with_key(home.tenant)
    path = path_of("api-tenant-status", home.ids())
    assert as_staff("post", path, {"status": "suspended"}).status_code == 200
    before = everything()
    for (name, method), row in ROWS.items():
        refused = send(key, name, method, home.ids())
        assert (refused.status_code, error_of(refused)["code"]) == (403, "tenant_suspended")
        if row.least in ROLES:
            answer = send(signed_in(home.members["owner"].user), name, method, home.ids())
            is_reading = method == "get" or name in {
                "api-tenant-audit-verify",
                "api-usage-verify",
            }
            assert answer.status_code == (200 if is_reading else 403), (name, method)
    assert everything() == before
    assert Tenant.objects.get(pk=home.tenant.pk).status == "suspended"


@pytest.mark.storage
def test_nothing_of_one_request_leaks_into_the_next(home: Home, admin: Api) -> None:
    from tenants.audit.actor import NoActor, current_actor

    assert admin("get", path_of("api-keys", home.ids())).status_code == 200
    assert admin("post", path_of("api-keys", home.ids()), {"label": ""}).status_code == 400
    assert scopes.current() is None
    with pytest.raises(NoActor):
        current_actor()


@pytest.mark.storage
def test_a_person_who_left_is_nobody(home: Home) -> None:
    user = home.members["owner"].user
    api = signed_in(user)
    key = with_key(home.tenant, member=home.members["owner"])
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert api("get", path_of("api-tenant", home.ids())).status_code == 401
    assert key("get", path_of("api-tenant", home.ids())).status_code == 401


def test_a_session_changes_something_only_from_our_own_pages(home: Home) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(home.members["owner"].user)
    api = Api(client)
    for name, method in ROWS:
        answer = send(api, name, method, home.ids())
        if method == "get":
            assert error_of(answer)["code"] == "staff_only" if answer.status_code != 200 else True
        else:
            assert (answer.status_code, error_of(answer)["code"]) == (403, "csrf_failed")
    # A key needs no such thing: browsers do not send it by themselves.
    key = with_key(home.tenant)
    program = Api(Client(enforce_csrf_checks=True), key.headers)
    assert program("post", path_of("api-keys", home.ids()), {"label": "x"}).status_code == 201
