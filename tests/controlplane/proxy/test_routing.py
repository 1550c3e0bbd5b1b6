"""Where real requests go, over real sockets: fallback, rests, budgets, conversations, headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.test import override_settings

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.credentials.services import store_key
from providers.metrics.models import TrafficMinute
from providers.routing import table
from providers.routing.aliases import PoolEntry, create_alias
from providers.routing.error_rules import set_error_rules
from providers.routing.models import Resting, RouteTrace
from providers.routing.policy import own_policy, set_policy
from providers.routing.sharing import end_rests
from providers.simulator.keys import KeyRule, rules_of
from providers.simulator.world import World
from tenants import scope
from tenants.audit.actor import acting_as
from tests.controlplane.proxy.conftest import FACTS, Gateway, register_vendors, started

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(params=["asgi", "drf"])
def gateway(
    request: pytest.FixtureRequest, transactional_db: None, simulated: tuple[str, World]
) -> Iterator[Gateway]:
    """One of its own for each test: what a gateway learnt of its targets is what is tested. Both
    lanes route alike."""
    simulated[1].reset()
    with override_settings(UPSTREAM_ALLOWED_NETWORKS=["127.0.0.0/8"]):
        try:
            with started(request.param, register_vendors(simulated[0]), simulated) as found:
                yield found
        finally:
            call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(autouse=True)
def operator() -> Iterator[None]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        yield


def register(gateway: Gateway, slug: str, upstream: str, **values: Any) -> Provider:
    """A registration whose model `shared` is `upstream` of the simulated vendor."""
    keys = values.pop("keys", ("one",))
    provider = services.register(
        slug=slug,
        protocol="openai-completions",
        base_url=f"{gateway.vendors}/openai/v1",
        **values,
    )
    for label in keys:
        store_key(provider=provider, label=label, secret=Secret(f"sim-{slug}-{label}"))
    services.add_model(provider=provider, upstream_id=upstream, alias="shared", facts=FACTS)
    return provider


def ask(gateway: Gateway, model: str = "shared", **more: Any) -> httpx.Response:
    headers = gateway.headers(**more.pop("headers", {}))
    body = {"model": model, "messages": HELLO, **more}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=120)


def ready(gateway: Gateway, wait_until: Callable[..., Any], count: int) -> None:
    """The gateway has seen the registrations."""

    def is_seen() -> bool:
        answer = httpx.post(
            f"{gateway.url}/v1/route/explain",
            json={"model": "shared", "messages": HELLO},
            headers=gateway.headers(),
            timeout=120,
        ).json()
        known = len(answer.get("would_be_tried", ())) + len(answer.get("rejected", ()))
        return known == count

    wait_until(is_seen, what="the routes are seen")


@pytest.mark.parametrize(
    "fault", ["status=503", "status=429", "status=500", "drop", "status=401", "status=404"]
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_another_provider_answers(
    gateway: Gateway, wait_until: Callable[..., Any], fault: str, stream: bool
) -> None:
    register(gateway, "bad", f"sim-gpt+{fault}", priority=9)
    register(gateway, "good", "sim-gpt")
    ready(gateway, wait_until, 2)
    answer = ask(gateway, stream=stream)
    assert answer.status_code == 200
    assert ("Hello" in answer.text) != stream or "data: [DONE]" in answer.text
    assert answer.headers["x-route-provider"] == "good"
    assert answer.headers["x-route-model"] == "sim-gpt"
    assert answer.headers["x-route-attempts"] == "2"
    assert float(answer.headers["x-route-overhead-ms"]) >= 0


def test_a_bad_request_stays_bad_everywhere(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    bad = register(gateway, "bad", "sim-gpt+status=400", priority=9)
    register(gateway, "good", "sim-gpt")
    ready(gateway, wait_until, 2)
    assert ask(gateway).status_code == 400
    # Unless the operator knows better.
    set_error_rules(bad, [table.ErrorRule(status=400, action="continue")])
    wait_until(lambda: ask(gateway).status_code == 200, what="the rule is seen")


def test_an_outage_is_not_multiplied(gateway: Gateway, wait_until: Callable[..., Any]) -> None:
    """Bar R10: with every provider failing, attempts stay within 1.2 times the requests."""
    for slug in ("a", "b", "c"):
        register(gateway, slug, "sim-gpt+status=503", keys=("one", "two"))
    ready(gateway, wait_until, 3)
    requests = 60
    with httpx.Client(headers=gateway.headers(), timeout=120) as client:
        for _ in range(requests):
            body = {"model": "shared", "messages": HELLO}
            answer = client.post(f"{gateway.url}/v1/chat/completions", json=body)
            assert answer.status_code == 503
    attempts = len(gateway.world.requests)
    print(f"R10: {attempts} attempts for {requests} requests")
    assert requests <= attempts <= 1.2 * requests


@pytest.mark.parametrize("fault", ["cut=3", "miderror=3", "reset=3"])
def test_nothing_is_tried_again_after_the_first_byte(
    gateway: Gateway, wait_until: Callable[..., Any], fault: str
) -> None:
    """Bar R10: what the caller has seen a part of is nobody else's to finish."""
    register(gateway, "bad", f"sim-gpt+text+tokens=40+{fault}", priority=9)
    register(gateway, "good", "sim-gpt")
    ready(gateway, wait_until, 2)
    answer = ask(gateway, stream=True)
    assert answer.status_code == 200
    assert answer.headers["x-route-provider"] == "bad"
    assert '"error"' in answer.text
    assert len(gateway.world.requests) == 1


def test_who_asked_to_be_left_alone_is(gateway: Gateway, wait_until: Callable[..., Any]) -> None:
    """Bar R10: after a 429 with Retry-After the next requests go elsewhere at once, and where
    there is nobody else the caller is told the time."""
    register(gateway, "busy", "sim-gpt+status=429+after=120", priority=9)
    good = register(gateway, "good", "sim-gpt")
    ready(gateway, wait_until, 2)
    assert ask(gateway).headers["x-route-attempts"] == "2"
    gateway.world.requests.clear()
    for _ in range(5):
        assert ask(gateway).headers["x-route-attempts"] == "1"
    assert len(gateway.world.requests) == 5
    services.set_enabled(good, is_enabled=False)
    ready(gateway, wait_until, 1)
    refused = ask(gateway)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 120


@pytest.mark.parametrize("status", [503, 401])
def test_one_of_three_keys_fails(
    gateway: Gateway, wait_until: Callable[..., Any], status: int
) -> None:
    """Bar R11 over the wire: the others serve, and the bad one is soon asked no more."""
    provider = register(gateway, "three", "sim-gpt", keys=("one", "two", "bad"))
    rules_of(gateway.world)["sim-three-bad"] = KeyRule(
        ends_at=datetime(2000, 1, 1, tzinfo=UTC), status=status
    )
    ready(gateway, wait_until, 1)
    statuses = Counter(ask(gateway).status_code for _ in range(40))
    # Each of the five failures may have come when the budget was used up.
    assert statuses[200] >= 35
    gateway.world.requests.clear()
    assert {ask(gateway).status_code for _ in range(10)} == {200}
    assert len(gateway.world.requests) == 10
    bad = Credential.objects.get(provider=provider, label="bad")
    if status == 401:
        wait_until(lambda: bad.refresh_from_db() or bad.state == "needs_login")
    else:
        assert bad.state == "active"
        wait_until(lambda: Resting.objects.filter(credential_id=str(bad.pk)).exists())


def test_a_key_that_is_refused_needs_a_new_one(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    bad = register(gateway, "bad", "sim-gpt+status=401", priority=9)
    register(gateway, "good", "sim-gpt")
    ready(gateway, wait_until, 2)
    assert ask(gateway).status_code == 200

    def state() -> str:
        return Credential.objects.get(provider=bad).state

    wait_until(lambda: state() == "needs_login", what="the row says so")
    assert "401" in Credential.objects.get(provider=bad).state_reason
    wait_until(lambda: ask(gateway).headers.get("x-route-attempts") == "1")


def test_who_keeps_failing_rests_and_an_operator_can_end_it(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    bad = register(gateway, "bad", "sim-gpt+status=503", priority=9)
    register(gateway, "good", "sim-gpt")
    ready(gateway, wait_until, 2)
    attempts = Counter(ask(gateway).headers.get("x-route-attempts", "0") for _ in range(30))
    # Five failures in a row (of which some may have had no budget left), then nobody asks it.
    assert attempts["1"] >= 25
    wait_until(lambda: Resting.objects.filter(provider=bad).exists(), what="the row is written")
    explained = httpx.post(
        f"{gateway.url}/v1/route/explain",
        json={"model": "shared", "messages": HELLO},
        headers=gateway.headers(),
        timeout=120,
    ).json()
    assert [entry["code"] for entry in explained["rejected"]] == ["resting"]
    end_rests(bad)
    ready_again = wait_until(
        lambda: ask(gateway).headers.get("x-route-attempts") == "2", what="it is tried again"
    )
    assert ready_again


def test_an_alias_is_tried_in_its_order(gateway: Gateway, wait_until: Callable[..., Any]) -> None:
    first = register(gateway, "first", "sim-gpt+status=503")
    second = register(gateway, "second", "sim-gpt", priority=9)
    create_alias(name="chain", targets=[PoolEntry("shared", first), PoolEntry("shared", second)])
    wait_until(lambda: ask(gateway, "chain").status_code == 200, what="the alias is seen")
    assert ask(gateway, "chain").headers["x-route-attempts"] == "2"


def test_strategies_by_header_and_policy(gateway: Gateway, wait_until: Callable[..., Any]) -> None:
    for slug in ("a", "b"):
        register(gateway, slug, "sim-gpt")
    ready(gateway, wait_until, 2)

    def served(**headers: str) -> Counter[str]:
        answers = [ask(gateway, headers=headers) for _ in range(6)]
        return Counter(answer.headers["x-route-provider"] for answer in answers)

    assert served() == {"a": 3, "b": 3}
    assert served(**{"X-Route-Strategy": "fill-first"}) == {"a": 6}
    refused = ask(gateway, headers={"X-Route-Strategy": "magic"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "strategy_not_allowed"
    # A conversation stays where it is.
    assert len(served(**{"X-Session-Id": "one conversation"})) == 1
    with scope.platform("tests"):
        set_policy(own_policy(None), allowed_strategies=["priority"], shows_route=False)
    wait_until(
        lambda: ask(gateway, headers={"X-Route-Strategy": "fill-first"}).status_code == 400,
        what="the policy is seen",
    )
    assert not any(name.startswith("x-route") for name in ask(gateway).headers)


def test_what_nobody_can_is_refused_with_its_code(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    provider = register(gateway, "small", "sim-gpt")
    services.add_model(
        provider=provider,
        upstream_id="sim-gpt+tokens=5",
        alias="tiny",
        context_window=100,
        max_output_tokens=10,
    )
    wait_until(lambda: ask(gateway, "tiny").status_code != 404, what="the model is seen")
    long = ask(gateway, "tiny", messages=[{"role": "user", "content": "word " * 2_000}])
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_too_small")
    much = ask(gateway, "tiny", max_tokens=11)
    assert (much.status_code, much.json()["error"]["code"]) == (400, "output_too_small")
    assert ask(gateway, "tiny", max_tokens=10).status_code == 200


@pytest.mark.parametrize(
    ("limit", "images", "status", "code"),
    [
        ({"max_images_per_request": 2}, 3, 400, "too_many_images"),
        ({"max_request_bytes": 1_000}, 20, 413, "request_too_large"),
    ],
)
def test_who_takes_less_than_the_request_has_is_not_asked(
    gateway: Gateway,
    wait_until: Callable[..., Any],
    limit: dict[str, int],
    images: int,
    status: int,
    code: str,
) -> None:
    narrow = register(gateway, "narrow", "sim-gpt", priority=9, limits=limit)
    ready(gateway, wait_until, 1)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    said = [{"role": "user", "content": [{"type": "text", "text": "Hello"}, *[image] * images]}]
    refused = ask(gateway, messages=said)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert ask(gateway).headers["x-route-provider"] == narrow.slug
    register(gateway, "wide", "sim-gpt")
    ready(gateway, wait_until, 2)
    answer = ask(gateway, messages=said)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-route-provider"] == "wide"


def test_decisions_and_figures_are_kept_without_the_prompt(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    register(gateway, "bad", "sim-gpt+status=503", priority=9)
    register(gateway, "good", "sim-gpt")
    ready(gateway, wait_until, 2)
    secret = "a canary in the prompt"
    answer = ask(gateway, messages=[{"role": "user", "content": secret}])
    assert answer.status_code == 200
    wait_until(RouteTrace.objects.exists, what="the trace is written")
    trace = RouteTrace.objects.get()
    assert (trace.model, trace.outcome, trace.attempts) == ("shared", "rescued", 2)
    assert trace.served_by == "good/sim-gpt"
    assert [each["outcome"] for each in trace.decision["tried"]] == ["overload", "ok"]
    assert secret not in str(trace.decision)
    assert trace.tenant_id == gateway.tenant.id

    def figures() -> Any:
        answer = httpx.get(
            f"{gateway.url}/v1/metrics/providers", headers=gateway.headers(), timeout=120
        )
        assert answer.status_code == 200
        return answer.json()["data"]

    found = wait_until(figures, what="the figures are written")
    by_provider = {entry["provider"]: entry["windows"]["60m"] for entry in found}
    assert by_provider["good"]["requests"] == 1
    assert by_provider["good"]["success_ratio"] == 1.0
    assert by_provider["good"]["latency_seconds"]["p50"] > 0
    assert by_provider["good"]["output_tokens"] > 0
    assert by_provider["bad"]["errors"] == {"overload": 1}
    assert TrafficMinute.objects.count() == 2


def test_strict_mode_goes_where_nothing_is_lost(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    register(gateway, "translated", "sim-gpt", priority=9)
    ready(gateway, wait_until, 1)
    body = {"model": "shared", "max_tokens": 50, "top_k": 5, "messages": HELLO}
    url = f"{gateway.url}/v1/messages"
    loose = httpx.post(url, json=body, headers=gateway.headers(), timeout=120)
    assert loose.status_code == 200
    assert int(loose.headers["x-route-losses"]) > 0
    strict = gateway.headers(**{"X-Translation-Strict": "true"})
    gateway.world.requests.clear()
    refused = httpx.post(url, json=body, headers=strict, timeout=120)
    assert refused.status_code == 400
    assert "top_k" in refused.json()["error"]["message"]
    assert not gateway.world.requests
    native = services.register(
        slug="native",
        protocol="anthropic-messages",
        base_url=f"{gateway.vendors}/anthropic",
    )
    store_key(provider=native, label="one", secret=Secret("sim-native"))
    services.add_model(provider=native, upstream_id="sim-claude", alias="shared", facts=FACTS)
    ready(gateway, wait_until, 2)
    served = httpx.post(url, json=body, headers=strict, timeout=120)
    assert served.status_code == 200
    assert (served.headers["x-route-provider"], served.headers["x-route-losses"]) == ("native", "0")
    assert len(gateway.world.requests) == 1


def test_an_answer_that_takes_too_long_is_given_up(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    """The registration's own bound of a whole answer, apart from silence and first byte."""
    register(gateway, "slow", "sim-gpt+first=60", priority=9, total_timeout_seconds=0.3)
    register(gateway, "good", "sim-gpt")
    ready(gateway, wait_until, 2)
    answer = ask(gateway)
    assert answer.status_code == 200
    assert answer.headers["x-route-provider"] == "good"
    assert answer.headers["x-route-attempts"] == "2"


def test_a_stream_ends_when_its_time_is_over(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    """It is never silent for long, and would go on for a minute."""
    slow = "sim-gpt+text+tokens=600+rate=10"
    register(gateway, "slow", slow, total_timeout_seconds=1)
    ready(gateway, wait_until, 1)
    answer = ask(gateway, stream=True)
    assert answer.status_code == 200
    assert '"finish_reason":"' not in answer.text
    assert "took longer" in answer.text


def test_the_time_of_a_request_holds_for_all_its_attempts(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    slow = [register(gateway, slug, "sim-gpt+first=60") for slug in ("one", "two")]
    create_alias(
        name="hurry",
        targets=[PoolEntry("shared", row) for row in slow],
        total_timeout_seconds=0.5,
    )
    wait_until(lambda: ask(gateway, "hurry").status_code != 404, what="the alias is seen")
    gateway.world.requests.clear()
    answer = ask(gateway, "hurry")
    assert answer.status_code == 504
    assert len(gateway.world.requests) == 1
    # Nobody is blamed for the time that the caller has.
    for _ in range(6):
        assert ask(gateway, "hurry").status_code == 504
    assert not gateway.running_state.routing.cooldowns.rests
    wait_until(lambda: RouteTrace.objects.filter(outcome="failed").exists())
    trace = RouteTrace.objects.filter(outcome="failed").first()
    assert trace is not None
    assert [each["outcome"] for each in trace.decision["tried"]] == ["expired"]


def test_requests_wait_a_moment_for_a_registration_that_is_full(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    register(gateway, "narrow", "sim-gpt+text+tokens=4+rate=25", limits={"parallel": 2})
    ready(gateway, wait_until, 1)
    # However slow this machine is: nobody is refused for having waited.
    gateway.running_state.providers.longest_wait_seconds = 60
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(gateway), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    gateway.running_state.providers.longest_wait_seconds = 0.05
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(gateway), range(8)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.json()["error"]["code"] for answer in refused} <= {"provider_overloaded"}
    assert all(answer.headers["retry-after"] for answer in refused)
