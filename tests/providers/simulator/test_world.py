"""One simulation's state: deterministic, bounded, and with a clock of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from providers.simulator import world as world_module
from providers.simulator.http import Request
from providers.simulator.world import World, masked

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_tokens_repeat_with_seed_and_count() -> None:
    one, same, other = World(seed="a"), World(seed="a"), World(seed="b")
    tokens = [one.token("x") for _ in range(50)]
    assert tokens == [same.token("x") for _ in range(50)]
    assert len(set(tokens)) == 50
    assert other.token("x") not in tokens
    assert one.token("y") not in tokens
    assert len(one.token("x", 200)) == 200


def test_a_frozen_clock_stands_until_it_is_moved() -> None:
    world = World()
    world.set_clock(NOON)
    assert world.now() == world.now() == NOON
    world.advance(1.5)
    assert world.now() == NOON + timedelta(seconds=1.5)
    world.set_clock(NOON)
    assert world.now() == NOON


def test_a_clock_may_run_from_elsewhere_and_faster() -> None:
    world = World()
    world.run_clock(NOON, speed=3600)
    first = world.now()
    assert first >= NOON
    machine = datetime.now(UTC)
    while datetime.now(UTC) - machine < timedelta(milliseconds=2):
        pass
    assert world.now() - first >= timedelta(seconds=7)
    world.set_clock(None)
    assert abs(world.now() - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("seconds", [1e300, 1e15, -1e15, float("nan"), float("inf")])
def test_the_calendar_has_ends(seconds: float) -> None:
    world = World()
    world.set_clock(NOON)
    with pytest.raises((ValueError, OverflowError)):
        world.advance(seconds)
    assert world.now() == NOON


async def test_a_pause_moves_a_frozen_clock_instead_of_waiting() -> None:
    world = World()
    world.set_clock(NOON)
    await world.pause(3600)
    assert world.now() == NOON + timedelta(hours=1)


def request(body: bytes = b"", **headers: str) -> Request:
    return Request("POST", "/x", headers, body)


def test_what_is_kept_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_module, "MAX_RECORDS", 5)
    monkeypatch.setattr(world_module, "MAX_RECORDED_BYTES", 1000)
    world = World()
    for _ in range(8):
        world.record(request(b"x"), "openai")
    assert [kept.number for kept in world.requests] == [4, 5, 6, 7, 8]
    for _ in range(4):
        world.record(request(b"x" * 400), "openai")
    assert [len(kept.raw) for kept in world.requests] == [400, 400]
    world.requests.clear()
    world.record(request(b"x" * 400), "openai")
    assert len(world.requests) == 1


def test_a_body_longer_than_is_kept_is_cut() -> None:
    world = World()
    world.record(request(b"x" * 100_000), "openai")
    assert len(world.requests[0].raw) == world_module.MAX_RECORDED_BODY


@pytest.mark.parametrize(
    "body",
    [
        b'{"refresh_token": "SECRET", "a": 1}',
        b'{"refreshToken": "SECRET"}',
        b'{"clientSecret":"SECRET"}',
        b'{"deep": [{"code_verifier": "SECRET"}]}',
        b"grant_type=x&refresh_token=SECRET&client_id=y",
        b"code=SECRET",
    ],
)
def test_secrets_in_bodies_are_masked(body: bytes) -> None:
    world = World()
    world.record(request(body), "codex")
    assert "SECRET" not in world.requests[0].body
    assert "…" in world.requests[0].body
    assert "SECRET" not in str(world.requests[0].shown())
    assert "SECRET" not in repr(world.requests[0])


def test_a_mask_tells_two_secrets_apart() -> None:
    assert masked("one") != masked("two")
    assert masked("one") == masked("one")
    assert "one" not in masked("one")


def test_reset_begins_again() -> None:
    world = World(seed="a")
    first = world.token("x")
    world.set_clock(NOON)
    world.violation("openai", "rule", "detail")
    world.parts["something"] = 1
    world.reset()
    assert world.token("x") == first
    assert not world.violations
    assert not world.parts
    assert world.frozen_at is None
