"""What a failure means, what comes next, and how often (bar R10)."""

from __future__ import annotations

import pytest

from controlplane.kit.errors import Fault, FaultKind
from providers.routing.outcomes import Outcome, classify, matching_rule
from providers.routing.plan import Candidate
from providers.routing.table import ErrorRule
from providers.routing.trying import WINDOW_SECONDS, Budget, Course, Step, step_after
from tests.providers.routing.made import target


def fault(kind: FaultKind, code: str = "x", word: str = "", message: str = "") -> Fault:
    return Fault(kind=kind, code=code, message=message, upstream_code=word or None)


@pytest.mark.parametrize(
    ("kind", "code", "word", "outcome"),
    [
        (FaultKind.AUTH, "upstream_auth", "", Outcome.AUTH),
        (FaultKind.FORBIDDEN, "upstream_forbidden", "", Outcome.FORBIDDEN),
        (FaultKind.PAYMENT, "upstream_quota_exhausted", "", Outcome.QUOTA),
        (FaultKind.RATE_LIMIT, "upstream_rate_limited", "", Outcome.RATE),
        (FaultKind.OVERLOADED, "upstream_overloaded", "", Outcome.OVERLOAD),
        (FaultKind.UPSTREAM, "upstream_error", "", Outcome.OVERLOAD),
        (FaultKind.UPSTREAM, "upstream_unreachable", "", Outcome.NETWORK),
        (FaultKind.UPSTREAM, "upstream_broken", "", Outcome.BROKEN),
        (FaultKind.UPSTREAM, "stream_truncated", "", Outcome.BROKEN),
        (FaultKind.UPSTREAM, "upstream_unreadable", "", Outcome.PROTOCOL),
        (FaultKind.UPSTREAM, "upstream_redirected", "", Outcome.PROTOCOL),
        (FaultKind.TIMEOUT, "upstream_timeout", "", Outcome.TIMEOUT),
        (FaultKind.CONTEXT_OVERFLOW, "context_length_exceeded", "", Outcome.OVERFLOW),
        (FaultKind.NOT_FOUND, "upstream_not_found", "", Outcome.MISSING),
        (FaultKind.BAD_REQUEST, "upstream_bad_request", "", Outcome.REFUSED),
        (FaultKind.BAD_REQUEST, "upstream_bad_request", "content_filter", Outcome.FILTERED),
        (FaultKind.UNPROCESSABLE, "upstream_unprocessable", "", Outcome.REFUSED),
        (FaultKind.TOO_LARGE, "upstream_request_too_large", "", Outcome.REFUSED),
        (FaultKind.OVERLOADED, "credential_unavailable", "", Outcome.UNAVAILABLE),
    ],
    ids=str,
)
def test_what_a_fault_means(kind: FaultKind, code: str, word: str, outcome: Outcome) -> None:
    assert classify(fault(kind, code, word)) is outcome


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_means_something_and_every_meaning_has_a_next_step(kind: FaultKind) -> None:
    assert isinstance(step_after(classify(fault(kind))), Step)


def test_no_outcome_without_a_step() -> None:
    for outcome in Outcome:
        assert isinstance(step_after(outcome), Step)


RULES = (
    ErrorRule(status=400, contains="try later", action="cooldown"),
    ErrorRule(status=400, contains="blocked", action="stop"),
    ErrorRule(status=500, action="stop"),
    ErrorRule(contains="go elsewhere", action="continue"),
)


@pytest.mark.parametrize(
    ("status", "message", "place", "step"),
    [
        (400, "please TRY LATER", 0, Step.NEXT_PROVIDER),
        (400, "blocked", 1, Step.STOP),
        (400, "something", None, Step.STOP),
        (500, "anything", 2, Step.STOP),
        (502, "anything", None, Step.STOP),
        (502, "Go elsewhere.", 3, Step.NEXT_PROVIDER),
    ],
)
def test_rules_of_the_operator_come_first(
    status: int, message: str, place: int | None, step: Step
) -> None:
    found = matching_rule(RULES, fault(FaultKind.BAD_REQUEST, message=message), status)
    assert found == (RULES[place] if place is not None else None)
    assert step_after(Outcome.REFUSED, found) is step


A = target("a", credentials=2, window=1_000)
A2 = target("a", model="other", credentials=1, window=8_000)
B = target("b", credentials=2, window=2_000, protocol="anthropic-messages")


def course(*targets: object) -> Course:
    return Course([Candidate(each, each.endpoint.credentials) for each in targets])  # type: ignore[attr-defined]


def walk(way: Course, step: Step, outcome: Outcome = Outcome.OVERLOAD) -> list[str]:
    found, pair = [], way.first()
    while pair is not None:
        found.append(pair[1].id if pair[1] is not None else pair[0].endpoint.slug)
        pair = way.after(step, pair, outcome)
    return found


@pytest.mark.parametrize(
    ("step", "outcome", "wanted"),
    [
        (Step.STOP, Outcome.REFUSED, ["a-0"]),
        (Step.NEXT_CREDENTIAL, Outcome.AUTH, ["a-0", "a-1", "a-0", "b-0", "b-1"]),
        (Step.NEXT_PROVIDER, Outcome.OVERLOAD, ["a-0", "b-0", "a-1", "b-1", "a-0"]),
        (Step.LARGER_WINDOW, Outcome.OVERFLOW, ["a-0", "a-0"]),
        (Step.OTHER_PROTOCOL, Outcome.INEXPRESSIBLE, ["a-0", "b-0", "a-1", "b-1", "a-0"]),
    ],
    ids=str,
)
def test_where_it_goes_next(step: Step, outcome: Outcome, wanted: list[str]) -> None:
    assert walk(course(A, A2, B), step, outcome) == wanted


def test_nothing_was_sent_so_the_only_one_is_asked_again_once() -> None:
    lone = target("lone")
    assert walk(course(lone), Step.NEXT_PROVIDER, Outcome.NETWORK) == ["lone-0", "lone-0"]
    assert walk(course(lone), Step.NEXT_PROVIDER, Outcome.OVERLOAD) == ["lone-0"]
    assert walk(course(target("open", credentials=0)), Step.NEXT_PROVIDER) == ["open"]


@pytest.mark.parametrize("requests", [1, 3, 20, 100, 1_000])
def test_an_outage_is_not_multiplied(requests: int) -> None:
    """Bar R10: with everything failing, attempts stay within 1.2 times the requests (or three
    more, where there are few)."""
    budget, attempts = Budget(), 0
    for _ in range(requests):
        budget.request(50.0)
        attempts += 1
        while budget.take():
            attempts += 1
    assert attempts <= max(requests + 3, 1.2 * requests)
    assert attempts > requests
    budget.request(50.0 + WINDOW_SECONDS)
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
