"""Responses kept here: official SDK in front, vendors that keep nothing behind, both lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from controlplane.kit.secret import Secret
from controlplane.proxy.explain import for_staff
from providers.catalog import services
from providers.catalog.models import Provider
from providers.credentials.services import store_key
from providers.routing.models import RouteTrace
from providers.routing.outcomes import Outcome
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tenants.responses.models import StoredResponse
from tests.controlplane.proxy.conftest import Gateway

# One that speaks Responses itself, and two that must be translated.
MODELS = ["sim-gpt-responses", "sim-gpt", "sim-claude"]


@pytest.fixture(scope="module")
def registry(registry: dict[str, Any], simulated: tuple[str, Any]) -> dict[str, Any]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        made = services.register(
            slug="all", catalog_id="simulator", endpoint={"origin": simulated[0]}
        )
        store_key(provider=made, label="one", secret=Secret("sim-all"))
        for slug in ("east", "west"):
            home = services.register(
                slug=slug, protocol="openai-responses", base_url=f"{simulated[0]}/openai/v1"
            )
            for label in ("one", "two"):
                store_key(provider=home, label=label, secret=Secret(f"sim-{slug}-{label}"))
            services.add_model(provider=home, upstream_id="sim-gpt-responses", alias="two-homes")
    return registry


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", MODELS)
def test_a_conversation_goes_on_where_it_was(
    gateway: Gateway, client: openai.OpenAI, model: str, stream: bool
) -> None:
    if stream:
        with client.responses.stream(model=model, input="A red fox", store=True) as events:
            first = events.get_final_response()
    else:
        first = client.responses.create(model=model, input="A red fox", store=True)
    assert first.output_text == "You said: A red fox"
    assert first.model_dump()["store"] is True

    second = client.responses.create(
        model=model, input="And then", previous_response_id=first.id, store=True
    )
    assert second.output_text == "You said: And then"
    assert second.previous_response_id == first.id
    third = client.responses.create(model=model, input="Last", previous_response_id=second.id)
    assert third.model_dump()["store"] is False
    asked = gateway.world.requests[-1].body
    said = ["A red fox", "You said: A red fox", "And then", "You said: And then", "Last"]
    positions = [asked.find(text) for text in said]
    assert -1 not in positions
    assert positions == sorted(positions)
    assert "previous_response_id" not in asked
    assert '"store":true' not in asked.replace(" ", "")
    assert not gateway.world.violations


def test_another_vendor_may_go_on(gateway: Gateway, client: openai.OpenAI) -> None:
    first = client.responses.create(model="sim-gpt-responses+think", input="A fox", store=True)
    for model in ("sim-claude", "sim-gpt", "sim-gpt-responses"):
        next_one = client.responses.create(
            model=model, input="Go on", previous_response_id=first.id
        )
        assert next_one.output_text == "You said: Go on"
        assert "A fox" in gateway.world.requests[-1].body


def test_what_is_kept_can_be_read_and_forgotten(client: openai.OpenAI) -> None:
    made = client.responses.create(model="sim-gpt", input="Keep me", store=True)
    assert client.responses.retrieve(made.id).output_text == "You said: Keep me"
    items = list(client.responses.input_items.list(made.id))
    assert [
        item.content[0].text if isinstance(item.content, list) else item.content for item in items
    ] == ["Keep me"]
    for act in (client.responses.cancel, lambda i: client.responses.retrieve(i, stream=True)):
        with pytest.raises(openai.BadRequestError, match="in the background"):
            act(made.id)
    client.responses.delete(made.id)
    for act in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            act(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="sim-gpt", input="x", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def test_pages_of_items(gateway: Gateway, client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": f"Part {number}"} for number in range(5)]
    made = client.responses.create(model="sim-gpt", input=question, store=True)
    url = f"{gateway.url}/v1/responses/{made.id}/input_items"
    page = httpx.get(
        url, headers=gateway.headers(), params={"limit": 2, "order": "asc"}, timeout=120
    ).json()
    assert [item["content"] for item in page["data"]] == ["Part 0", "Part 1"]
    assert page["has_more"] is True
    more = {"limit": 100, "order": "asc", "after": page["last_id"]}
    rest = httpx.get(url, headers=gateway.headers(), params=more, timeout=120).json()
    assert [item["content"] for item in rest["data"]] == ["Part 2", "Part 3", "Part 4"]
    assert rest["has_more"] is False
    for wrong in ({"limit": 0}, {"limit": "x"}, {"after": "nobody"}):
        assert (
            httpx.get(url, headers=gateway.headers(), params=wrong, timeout=120).status_code == 400
        )


def test_nothing_is_kept_unless_asked(client: openai.OpenAI) -> None:
    for more in ({}, {"store": False}):
        made = client.responses.create(model="sim-gpt", input="Forget me", **more)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.create(model="sim-gpt", input="x", background=True)
    # What failed was never an answer.
    with pytest.raises(openai.APIStatusError):
        client.responses.create(model="sim-gpt+status=503", input="x", store=True)


def test_it_is_the_tenants_alone(gateway: Gateway, client: openai.OpenAI) -> None:
    made = client.responses.create(model="sim-gpt", input="Mine alone", store=True)
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        other = Tenant.objects.create(slug=f"other-{gateway.tenant.slug}", name="Other")
        _, secret = create_key(tenant=other, label="proxy")
        row = StoredResponse.objects.get(response_id=made.id)
    assert row.tenant_id == gateway.tenant.id
    assert b"Mine alone" not in bytes(row.content)
    gateway.running_state.keys.reload()
    stranger = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=secret.reveal(), max_retries=0)
    for act in (stranger.responses.retrieve, stranger.responses.delete):
        with pytest.raises(openai.NotFoundError):
            act(made.id)
    with pytest.raises(openai.BadRequestError):
        stranger.responses.create(model="sim-gpt", input="x", previous_response_id=made.id)
    assert client.responses.retrieve(made.id).id == made.id


def test_a_follow_up_goes_to_who_answered_while_it_can(
    gateway: Gateway, wait_until: Callable[..., Any]
) -> None:
    """Of two registrations that take turns, with two keys each: the one with the key that gave
    the answer. When that one rests, the other goes on from what we keep."""

    def ask(**more: Any) -> httpx.Response:
        body = {"model": "two-homes", "input": "A fox", "store": True, **more}
        found = httpx.post(
            f"{gateway.url}/v1/responses", json=body, headers=gateway.headers(), timeout=120
        )
        assert found.status_code == 200, found.text
        return found

    chains = 3
    for _ in range(chains):
        first = ask()
        home = first.headers["x-route-provider"]
        for _ in range(4):
            later = ask(previous_response_id=first.json()["id"])
            assert later.headers["x-route-provider"] == home
    traces = RouteTrace.objects.filter(model="two-homes", tenant=gateway.tenant)
    with scope.platform("tests"):
        wait_until(lambda: traces.count() == 5 * chains, seconds=60, what="the traces are written")
        used = [row.decision["tried"][0]["credential"] for row in traces.order_by("at")]
    for start in range(0, len(used), 5):
        assert len(set(used[start : start + 5])) == 1, used
    cooldowns = gateway.running_state.routing.cooldowns
    place = (str(of_slug(home).pk), "", "")
    now = gateway.running_state.routing.now()
    cooldowns.failed(
        *place, outcome=Outcome.NETWORK, now=now, cooldown_seconds=900, retry_after_seconds=900
    )
    try:
        moved = ask(previous_response_id=first.json()["id"])
    finally:
        cooldowns.reset([place])
    assert moved.headers["x-route-provider"] == {"east": "west", "west": "east"}[home]
    assert "A fox" in gateway.world.requests[-1].body
    gateway.world.reset()
    body = {"model": "two-homes", "input": "Go on", "previous_response_id": first.json()["id"]}

    def explained(body: dict[str, Any]) -> Any:
        return httpx.post(
            f"{gateway.url}/v1/route/explain",
            json={"path": "/v1/responses", "body": body},
            headers=gateway.headers(),
            timeout=120,
        )

    shown = explained(body).json()
    assert (shown["needs"]["goes_on_at"], shown["would_be_tried"][0]["provider"]) == (home, home)
    bare = explained({"model": "two-homes", "input": "Go on"}).json()["needs"]
    # What went before is part of the question.
    assert bare["prompt_tokens_at_most"] < shown["needs"]["prompt_tokens_at_most"]
    assert bare["goes_on_at"] is None
    with scope.platform("tests"):
        seen = for_staff(
            tenant_id=gateway.tenant.id, path="/v1/responses", body=body, strategy="fill-first"
        )
    assert seen["needs"]["goes_on_at"] == home
    gone = explained({**body, "previous_response_id": "resp_nobody"})
    assert gone.json()["error"]["code"] == "previous_response_not_found"
    assert not gateway.world.requests


def of_slug(slug: str) -> Provider:
    with scope.platform("tests"):
        return Provider.objects.get(slug=slug)
