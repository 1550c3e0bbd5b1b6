"""Bar R11: who rests, for how long, who probes, and what processes tell each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.routing.cooldown import FAILURES_IN_A_ROW, Cooldowns, Rest
from providers.routing.outcomes import Outcome
from tests.providers.routing.made import MODEL, NOW, planned, slugs, standing, table, target

AT = ("p", "c", MODEL)


def fail(known: Cooldowns, outcome: Outcome, now: float = NOW, **more: Any) -> Rest | None:
    return known.failed(*AT, outcome=outcome, now=now, cooldown_seconds=30, **more)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.OVERLOAD,
        Outcome.NETWORK,
        Outcome.BROKEN,
        Outcome.TIMEOUT,
        Outcome.PROTOCOL,
        Outcome.RATE,
        Outcome.UNAVAILABLE,
    ],
    ids=str,
)
def test_five_in_a_row(outcome: Outcome) -> None:
    known = Cooldowns()
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert fail(known, outcome) is None
    # One success between them: not in a row.
    known.succeeded(*AT)
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert fail(known, outcome) is None
    rest = fail(known, outcome)
    assert rest is not None
    assert rest.until == NOW + 30
    assert known.resting(*AT, NOW + 29) is rest
    assert known.resting(*AT, NOW + 30) is None


def test_each_rest_is_longer_up_to_five_minutes_and_a_success_forgets() -> None:
    known, now, lengths = Cooldowns(), NOW, []
    for _ in range(FAILURES_IN_A_ROW - 1):
        fail(known, Outcome.OVERLOAD, now)
    for _ in range(13):
        rest = fail(known, Outcome.OVERLOAD, now)
        assert rest is not None
        lengths.append(rest.until - now)
        now = rest.until
        assert known.admit(*AT, now)
    assert lengths == [min(30 * n, 300) for n in range(1, 14)]
    known.succeeded(*AT)
    assert known.rests == {}
    assert fail(known, Outcome.OVERLOAD, now) is None


def test_one_probe_at_a_time() -> None:
    known = Cooldowns()
    fail(known, Outcome.RATE, retry_after_seconds=10)
    then = NOW + 10
    assert [known.admit(*AT, then) for _ in range(4)] == [True, False, False, False]
    # Others see it as resting while it is probed.
    assert known.resting(*AT, then) is not None
    known.given_up(*AT)
    assert known.admit(*AT, then)
    # A probe that never came back does not shut the place for ever.
    assert not known.admit(*AT, then + 60)
    assert known.admit(*AT, then + 121)
    known.succeeded(*AT, is_whole=False)
    assert all(known.admit(*AT, then) for _ in range(4))


def test_an_answer_that_breaks_off_each_time_counts() -> None:
    known = Cooldowns()
    for _ in range(FAILURES_IN_A_ROW):
        known.succeeded(*AT, is_whole=False)
        rest = fail(known, Outcome.BROKEN)
    assert rest is not None


@pytest.mark.parametrize(
    ("outcome", "after", "seconds", "place", "is_shut"),
    [
        (Outcome.RATE, 7, 7, AT, False),
        (Outcome.RATE, 86_400, 300, AT, False),
        (Outcome.OVERLOAD, 12, 12, AT, False),
        (Outcome.QUOTA, 86_400, 86_400, ("p", "c", ""), True),
        (Outcome.QUOTA, 10**9, 7 * 86_400, ("p", "c", ""), True),
        (Outcome.QUOTA, None, 30, ("p", "c", ""), False),
        (Outcome.AUTH, None, 300, ("p", "c", ""), False),
        (Outcome.FORBIDDEN, None, 300, AT, False),
        (Outcome.NETWORK, 5, 5, ("p", "", ""), False),
    ],
    ids=str,
)
def test_what_is_believed_at_once(
    outcome: Outcome, after: float | None, seconds: float, place: Any, is_shut: bool
) -> None:
    known = Cooldowns()
    rest = fail(known, outcome, retry_after_seconds=after)
    assert rest is not None
    assert (rest.until - NOW, rest.is_shut) == (seconds, is_shut)
    assert list(known.rests) == [place]


@pytest.mark.parametrize(
    "outcome", [Outcome.REFUSED, Outcome.FILTERED, Outcome.OVERFLOW, Outcome.MISSING], ids=str
)
def test_what_says_nothing_against_the_place(outcome: Outcome) -> None:
    known = Cooldowns()
    assert all(fail(known, outcome) is None for _ in range(20))
    assert fail(known, outcome, is_forced=True) is not None


def test_a_cooldown_of_nothing_is_none() -> None:
    known = Cooldowns()
    for _ in range(20):
        known.failed(*AT, outcome=Outcome.OVERLOAD, now=NOW, cooldown_seconds=0)
    assert known.rests == {}


def test_a_model_rests_alone_and_a_credential_with_all_its_models() -> None:
    known = Cooldowns()
    fail(known, Outcome.RATE, retry_after_seconds=9)
    assert known.resting("p", "c", "other", NOW) is None
    fail(known, Outcome.QUOTA, retry_after_seconds=9)
    assert known.resting("p", "c", "other", NOW) is not None
    assert known.resting("p", "d", MODEL, NOW) is None


def test_one_of_three_credentials_fails() -> None:
    """Bar R11 whole: out after five in a row, back after one probe, the last one stays."""
    known = standing()
    routes = table(target("p", credentials=3))

    def used(bad: set[str]) -> list[str]:
        """The credential of each of 30 requests; those in `bad` fail."""
        seen = []
        for _ in range(30):
            ref = planned(routes, known).candidates[0].credentials[0]
            seen.append(ref.id)
            if ref.id in bad:
                known.cooldowns.failed(
                    "p", ref.id, MODEL, outcome=Outcome.OVERLOAD, now=NOW, cooldown_seconds=30
                )
            else:
                known.cooldowns.succeeded("p", ref.id, MODEL)
        return seen

    seen = used({"p-1"})
    assert seen.count("p-1") == FAILURES_IN_A_ROW
    assert "p-1" not in seen[15:]
    seen = used({"p-1", "p-2"})
    assert seen.count("p-2") == FAILURES_IN_A_ROW
    assert set(seen[15:]) == {"p-0"}
    # All three fail: somebody is still asked.
    used({"p-0", "p-1", "p-2"})
    made = planned(routes, known)
    assert made.is_last_resort
    assert len(made.candidates[0].credentials) == 3


def test_processes_tell_each_other() -> None:
    here, there = Cooldowns(), Cooldowns()
    fail(here, Outcome.RATE, retry_after_seconds=60)
    told = here.untold()
    assert list(told) == [AT]
    # It changes again while the first news are on their way.
    fail(here, Outcome.RATE, retry_after_seconds=90)
    here.told(told)
    told = here.untold()
    here.told(told)
    assert here.untold() == {}
    shared = {place: rest for place, rest in told.items() if rest is not None}
    there.adopt(shared)
    assert there.resting(*AT, NOW) is not None
    assert there.untold() == {}
    # Somebody resets it, or a probe elsewhere went well.
    here.adopt({})
    assert here.resting(*AT, NOW) is None
    # What was not told yet is kept.
    fail(there, Outcome.QUOTA, retry_after_seconds=60)
    there.adopt({})
    assert list(there.rests) == [("p", "c", "")]


def test_a_reset_is_told() -> None:
    known = Cooldowns()
    fail(known, Outcome.RATE, retry_after_seconds=60)
    known.told(known.untold())
    known.reset([AT])
    assert known.untold() == {AT: None}
    assert known.is_quiet("p")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "succeed", "give up", "admit", "reset", "adopt"]),
        st.sampled_from(["c", "d", ""]),
        st.sampled_from(["m", "n"]),
        st.sampled_from(list(Outcome)),
        st.sampled_from([None, 5.0, 50.0]),
        st.floats(0, 100),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_quick_question_is_never_wrong(steps: list[Any]) -> None:
    """`is_quiet` skips the look-up: it must say no exactly where something stands."""
    known, now = Cooldowns(), NOW
    for act, credential, model, outcome, after, later in steps:
        now += later
        place = ("p", credential, model)
        match act:
            case "fail":
                known.failed(
                    *place,
                    outcome=outcome,
                    now=now,
                    cooldown_seconds=30,
                    retry_after_seconds=after,
                )
            case "succeed":
                known.succeeded(*place)
            case "give up":
                known.given_up(*place)
            case "admit":
                known.admit(*place, now)
            case "reset":
                known.reset([place])
            case "adopt":
                known.adopt({place: Rest(until=now + 9, since=now, outcome="rate")})
        assert known.is_quiet("p") == (not known.rests)
        for rest in known.rests.values():
            assert rest.until - now <= 7 * 86_400


def test_a_plan_leaves_out_whom_the_network_does_not_reach() -> None:
    known = standing()
    for _ in range(FAILURES_IN_A_ROW):
        known.cooldowns.failed(
            "a", "a-0", MODEL, outcome=Outcome.NETWORK, now=NOW, cooldown_seconds=30
        )
    assert slugs(planned(table(target("a"), target("b")), known)) == ["b"]
