"""Limits, the ledger and its reports through the control API."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from controlplane.kit import clock
from tenants import scope
from tenants.quotas.price_lists import in_force
from tenants.quotas.snapshot import LimitSnapshot
from tenants.usage.models import UsageEvent
from tenants.usage.rollups import roll_up
from tenants.usage.verify import verify
from tests.controlplane.api.conftest import Api, Home, error_of
from tests.ledger import spend

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def path(home: Home, rest: str) -> str:
    return f"/api/v1/tenants/{home.tenant.id}/{rest}"


def test_a_limit_is_set_changed_and_removed_once(home: Home, admin: Api) -> None:
    wanted = {"scope_kind": "tenant", "kind": "money", "period": "month", "amount": 10**9}
    made = admin("post", path(home, "limits"), wanted)
    assert made.status_code == 201
    assert made.json()["mode"] == "enforce"
    again = admin("post", path(home, "limits"), wanted)
    assert (again.status_code, error_of(again)["code"]) == (409, "state_conflict")
    where = path(home, f"limits/{made.json()['id']}")
    stale = admin("patch", where, {"amount": 5}, if_match='"7"')
    assert stale.status_code == 412
    changed = admin("patch", where, {"amount": 5, "mode": "shadow"}, if_match=made["ETag"])
    assert (changed.json()["amount"], changed.json()["version"]) == (5, 2)
    gone = admin("delete", where, if_match=changed["ETag"])
    assert gone.status_code == 204
    assert admin("get", where).status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": -1}, "amount"),
        ({"amount": 10**19}, "amount"),
        ({"period": "none"}, "period"),
        ({"kind": "parallel"}, "period"),
        ({"window": "fiscal", "period": "day"}, "window"),
        ({"window": "rolling", "period": "total"}, "window"),
        ({"scope_kind": "platform"}, "scope_kind"),
        ({"scope_kind": "key"}, "scope_value"),
        ({"scope_kind": "key", "scope_value": "nobody"}, "scope_value"),
        ({"scope_value": "something"}, "scope_value"),
        ({"fiscal_day": 31}, "fiscal_day"),
        ({"colour": "red"}, "colour"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_limit_that_means_nothing_is_refused_by_field(
    home: Home, admin: Api, changes: dict[str, Any], field: str
) -> None:
    wanted = {"scope_kind": "tenant", "kind": "tokens", "period": "day", "amount": 5, **changes}
    answer = admin("post", path(home, "limits"), wanted)
    assert answer.status_code in {400, 422}
    assert error_of(answer)["param"] == field


def test_another_tenants_key_cannot_be_limited(home: Home, elsewhere: Home, admin: Api) -> None:
    for key, status in ((home.key, 201), (elsewhere.key, 422)):
        wanted = {"scope_kind": "key", "kind": "parallel", "amount": 1, "scope_value": str(key.id)}
        answer = admin("post", path(home, "limits"), wanted)
        assert answer.status_code in {status, 400 if status == 422 else status}


def test_what_the_platform_set_the_tenant_leaves_alone(
    home: Home, admin: Api, as_staff: Api
) -> None:
    wanted = {"scope_kind": "tenant", "kind": "money", "period": "month", "amount": 10**9}
    made = as_staff("post", path(home, "limits"), wanted)
    where = path(home, f"limits/{made.json()['id']}")
    assert admin("get", where).json()["is_platform_set"] is True
    refused = admin("patch", where, {"amount": 5}, if_match=made["ETag"])
    assert (refused.status_code, error_of(refused)["code"]) == (403, "role_forbidden")
    policy = admin("get", path(home, "usage-policy"))
    for api, status in ((admin, 403), (as_staff, 200)):
        answer = api(
            "patch", path(home, "usage-policy"), {"mark_up": 1_500}, if_match=policy["ETag"]
        )
        assert answer.status_code == status


AGREED = {
    "model": "gpt-*",
    "effective_from": "2026-01-01T01:00:00+01:00",
    "price": {"input": "2", "output": "8"},
}


def test_a_price_list_is_the_platforms_to_set_and_the_tenants_to_see(
    home: Home, admin: Api, as_staff: Api
) -> None:
    where = path(home, "usage-policy")
    policy = admin("get", where)
    assert policy.json()["price_list"] == []
    refused = admin("patch", where, {"price_list": [AGREED]}, if_match=policy["ETag"])
    assert (refused.status_code, error_of(refused)["param"]) == (403, "price_list")
    changed = as_staff("patch", where, {"price_list": [AGREED]}, if_match=policy["ETag"])
    assert changed.status_code == 200
    shown = [{**AGREED, "effective_from": "2026-01-01T00:00:00+00:00"}]
    assert admin("get", where).json()["price_list"] == shown


def test_what_the_platform_sets_holds_for_tenants_without_a_policy(
    home: Home, elsewhere: Home, admin: Api, as_staff: Api
) -> None:
    common = "/api/v1/usage-policy"
    assert admin("get", common).status_code == 403
    first = as_staff("get", common)
    changed = as_staff(
        "patch", common, {"mark_up": 500, "price_list": [AGREED]}, if_match=first["ETag"]
    )
    assert (changed.status_code, changed.json()["tenant_id"]) == (200, None)
    mine = admin("get", path(home, "usage-policy"))
    # What it pays is told; a list of its own it has not.
    assert (mine.json()["mark_up"], mine.json()["price_list"]) == (500, [])
    own = {**AGREED, "price": {"input": "1", "output": "1"}}
    as_staff(
        "patch",
        path(home, "usage-policy"),
        {"mark_up": 0, "price_list": [own]},
        if_match=mine["ETag"],
    )
    limits = LimitSnapshot()
    limits.reload()
    here, there = limits.policy(home.tenant.id), limits.policy(elsewhere.tenant.id)
    assert (here.mark_up, there.mark_up) == (0, 500)
    now = time.time()
    agreed = in_force(here.price_list, "gpt-9", now)
    common_price = in_force(there.price_list, "gpt-9", now)
    assert agreed is not None
    assert common_price is not None
    assert agreed.price != common_price.price
    assert in_force(here.price_list, "other", now) is None


@pytest.mark.parametrize(
    "wrong",
    [
        [{**AGREED, "price": {"input": "2"}}],
        [{**AGREED, "price": {"input": "-2", "output": "8"}}],
        [{**AGREED, "price": {"input": "1e999999", "output": "8"}}],
        [{**AGREED, "price": {"input": 2, "output": 8}}],
        [{**AGREED, "price": {"input": "2", "output": "8", "colour": "red"}}],
        [{**AGREED, "price": {"input": "2", "output": "8", "service_tiers": {"flex": "half"}}}],
        [{**AGREED, "model": "gpt-[45]"}],
        [{**AGREED, "model": ""}],
        [{**AGREED, "effective_from": "soon"}],
        [{**AGREED, "effective_from": "0001-01-01T00:00:00+14:00"}],
        [AGREED, AGREED],
        [{**AGREED, "model": f"m-{number}"} for number in range(101)],
        {"gpt": "2"},
    ],
)
def test_a_price_that_is_none_is_refused(home: Home, as_staff: Api, wrong: Any) -> None:
    where = path(home, "usage-policy")
    etag = as_staff("get", where)["ETag"]
    answer = as_staff("patch", where, {"price_list": wrong}, if_match=etag)
    assert answer.status_code == 400, answer.content
    assert as_staff("get", where)["ETag"] == etag


def test_reports_add_up_by_every_dimension(home: Home, owner: Api) -> None:
    spend(home.tenant, 100, 200)
    spend(home.tenant, 50, None, model="other")
    for by in ("key", "member", "model", "provider", "day", "hour"):
        answer = owner("get", path(home, f"usage/report?by={by}"))
        found = answer.json()
        assert found["totals"]["charge_nanos"] == 350, by
        assert sum(row["charge_nanos"] for row in found["rows"]) == 350
        assert (found["totals"]["requests"], found["totals"]["unknown"]) == (4, 1)
    models = owner("get", path(home, "usage/report?by=model")).json()["rows"]
    assert [(row["group"], row["charge_nanos"]) for row in models] == [
        ("gpt-test", 300),
        ("other", 50),
    ]


def test_what_moved_is_beside_the_same_days_before(home: Home, owner: Api) -> None:
    spend(home.tenant, 500, model="left", at=clock.now() - timedelta(days=40))
    spend(home.tenant, 100, model="grown", at=clock.now() - timedelta(days=40))
    spend(home.tenant, 900, model="grown")
    found = owner("get", path(home, "usage/movers")).json()
    assert found["by"] == "model"
    assert [tuple(row.values()) for row in found["items"]] == [
        ("grown", 100, 900),
        ("left", 500, 0),
    ]


def test_errors_are_counted_by_provider_and_code(home: Home, owner: Api) -> None:
    spend(home.tenant, 1, 2, error="upstream_overloaded")
    spend(home.tenant, 3)
    found = owner("get", path(home, "usage/errors")).json()["items"]
    assert found == [
        {"provider": "acme", "status": 503, "error_code": "upstream_overloaded", "count": 2}
    ]


def test_staff_see_all_tenants_together(home: Home, elsewhere: Home, as_staff: Api) -> None:
    spend(home.tenant, 100)
    spend(elsewhere.tenant, 900)
    found = as_staff("get", "/api/v1/usage/report").json()
    assert [(row["group"], row["charge_nanos"]) for row in found["rows"]] == [
        (str(elsewhere.tenant.id), 900),
        (str(home.tenant.id), 100),
    ]
    assert found["totals"]["charge_nanos"] == 1_000
    wrong = as_staff("get", "/api/v1/usage/report?by=colour")
    assert error_of(wrong)["param"] == "by"


@pytest.mark.parametrize(
    ("rest", "param"),
    [
        ("usage/report?by=colour", "by"),
        ("usage/report?since=yesterday", "since"),
        ("usage/report?since=2026-02-30", "since"),
        ("usage/report?since=2026-03-02&until=2026-03-01", "until"),
        ("usage/report?since=2001-01-01", "since"),
        ("usage/report?limit=3", "limit"),
        ("usage/movers?by=day", "by"),
        ("usage/errors?by=model", "by"),
        ("usage/statement?month=2026-13", "month"),
        ("usage/statement?month=9999-12", "month"),
        ("usage/export?form=xml", "form"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(
    home: Home, owner: Api, rest: str, param: str
) -> None:
    answer = owner("get", path(home, rest))
    assert answer.status_code == 400
    assert error_of(answer)["param"] == param


def test_the_export_holds_every_row_and_no_formula(home: Home, owner: Api) -> None:
    spend(home.tenant, 1, 2, 3)
    spend(home.tenant, 4, model="=cmd()")
    answer = owner("get", path(home, "usage/export"))
    assert answer["X-Total-Rows"] == "4"
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [row["cost_nanos"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[-1]["model_asked"] == "'=cmd()"
    answer = owner("get", path(home, "usage/export?form=json"))
    lines = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
    assert [line["cost_nanos"] for line in lines] == [1, 2, 3, 4]
    answer = owner("get", path(home, "usage/export?since=2020-01-01&until=2020-02-01"))
    assert len(b"".join(answer.streaming_content).splitlines()) == 1


def test_a_statement_carries_a_receipt_for_the_chain(home: Home, owner: Api) -> None:
    spend(home.tenant, 100, None)
    found = owner("get", path(home, "usage/statement")).json()
    assert found["totals"]["charge_nanos"] == 100
    assert found["totals"]["unknown"] == 1
    with scope.tenant(home.tenant.id):
        last = UsageEvent.objects.latest("sequence")
    assert found["receipt"] == {"sequence": 2, "hash": last.hash}
    answer = owner("get", path(home, "usage/statement?form=csv"))
    assert last.hash in answer.content.decode()
    empty = owner("get", path(home, "usage/statement?month=2020-01")).json()
    assert empty["receipt"] is None


def test_a_refund_is_a_new_entry_that_balances(
    home: Home, owner: Api, as_staff: Api, everything: Callable[[], Any]
) -> None:
    spend(home.tenant, 100)
    (event,) = owner("get", path(home, "usage/events")).json()["items"]
    wanted = {"request_id": event["request_id"], "charge_nanos": -40, "reason": "goodwill"}
    assert owner("post", path(home, "usage/corrections"), wanted).status_code == 403
    answer = as_staff("post", path(home, "usage/corrections"), wanted)
    assert answer.status_code == 201
    assert answer.json()["entry"] == "correction"
    assert (answer.json()["reason"], answer.json()["charge_nanos"]) == ("goodwill", -40)
    assert answer.json()["author"]
    too_much = as_staff("post", path(home, "usage/corrections"), {**wanted, "charge_nanos": -61})
    assert too_much.status_code == 409
    roll_up()
    assert owner("get", path(home, "usage/report")).json()["totals"]["charge_nanos"] == 60
    assert owner("post", path(home, "usage/verify")).json()["is_intact"] is True
    assert verify().findings == []


def test_budgets_tell_how_long_they_last(home: Home, owner: Api, admin: Api) -> None:
    admin(
        "post",
        path(home, "limits"),
        {"scope_kind": "tenant", "kind": "money", "period": "total", "amount": 1_000},
    )
    found = owner("get", path(home, "usage/budgets")).json()["items"]
    money = next(item for item in found if item["limit"]["kind"] == "money")
    assert (money["used"], money["left"], money["lasts_until"]) == (0, 1_000, None)
