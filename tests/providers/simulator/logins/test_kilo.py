"""Kilo speaks by status, and the user code is the key."""

from __future__ import annotations

from typing import Any

from providers.simulator.logins.tokens import token_status
from tests.providers.simulator.logins.conftest import BASE, Reply, Vendors

CODES = "/kilo/api/device-auth/codes"


def start(vendors: Vendors) -> dict[str, Any]:
    answer: dict[str, Any] = vendors.form(CODES, {}).json()
    return answer


def poll(vendors: Vendors, started: dict[str, Any]) -> Reply:
    return vendors.get(f"{CODES}/{started['code']}")


def test_each_answer_has_its_status(vendors: Vendors) -> None:
    approved, denied, expired = start(vendors), start(vendors), start(vendors)
    assert approved["verificationUrl"].startswith(f"{BASE}/kilo/device?user_code=")
    vendors.wait(3)
    assert poll(vendors, approved).status == 202
    vendors.approve(approved["code"], "ben")
    vendors.deny(denied["code"])
    vendors.wait(3)
    answer = poll(vendors, approved).json()
    assert (answer["status"], answer["userEmail"]) == ("approved", "ben@example.test")
    assert poll(vendors, denied).status == 403
    vendors.wait(600)
    assert poll(vendors, expired).status == 410
    assert vendors.rules() == []
    # No expiry: until it is revoked.
    assert token_status(vendors.world, "kilo", answer["token"]) == "valid"
    who = vendors.get("/kilo/api/profile", authorization=f"Bearer {answer['token']}")
    assert who.json()["user"]["email"] == "ben@example.test"
    assert vendors.get("/kilo/api/profile", authorization="Bearer kilo-none").status == 401


def test_a_code_works_once(vendors: Vendors) -> None:
    started = start(vendors)
    vendors.approve(started["code"])
    vendors.wait(3)
    assert poll(vendors, started).status == 200
    vendors.wait(3)
    assert poll(vendors, started).status == 410


def test_too_fast_only_shows_in_the_violations(vendors: Vendors) -> None:
    started = start(vendors)
    vendors.wait(1)
    assert poll(vendors, started).status == 202
    assert vendors.rules("kilo") == ["interval"]
