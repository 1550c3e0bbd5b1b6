from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tenants.alerts import policy

START = datetime(2026, 3, 1, tzinfo=UTC)


def test_rests_grow_and_end_within_the_stated_time() -> None:
    now, tries = START, []
    for attempts in range(1, 1_000):
        due = policy.next_try(attempts=attempts, since=START, now=now)
        if due is None:
            break
        tries.append(due - now)
        now = due
    else:
        raise AssertionError("it never gives up")
    assert tries[0] == timedelta(seconds=10)
    assert tries == sorted(tries)
    assert timedelta(hours=20) < now - START <= policy.GIVEN_UP_AFTER
    assert 10 < len(tries) < 30
