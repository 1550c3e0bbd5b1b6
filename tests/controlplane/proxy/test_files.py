"""Files and batches at providers: official SDK in front, simulated vendors behind, both lanes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.pricing import cost_nanos
from providers.credentials.models import Credential
from providers.credentials.services import store_key
from providers.files.models import VendorObject
from providers.files.settling import GIVEN_UP_AFTER, settle_due
from providers.protocols.canonical import Usage
from providers.simulator.world import masked
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit
from tenants.quotas.services import change_policy
from tenants.usage.models import UsageEvent
from tests.controlplane.proxy.conftest import FACTS, Gateway

FEATURES = {"files": True, "batches": True}


@pytest.fixture(scope="module")
def registry(registry: dict[str, Provider], simulated: tuple[str, Any]) -> dict[str, Provider]:
    """Beside the vendors of every test, which keep no files: one that does, with a second key."""
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        shelf = services.register(
            slug="shelf", catalog_id="simulator", endpoint={"origin": simulated[0]}
        )
        for label in ("one", "two"):
            store_key(provider=shelf, label=label, secret=Secret(f"sim-shelf-{label}"))
    return {**registry, "shelf": shelf}


def sdk(gateway: Gateway, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key or gateway.key, max_retries=0)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with scope.platform("tests"):
        VendorObject.objects.all().delete()
    with sdk(gateway) as made:
        yield made


def line(custom_id: str, model: str = "sim-gpt", **more: Any) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
    entry = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(entry)


def batch_file(client: openai.OpenAI, *lines: str, **more: Any) -> Any:
    content = "\n".join(lines).encode()
    return client.files.create(file=("in.jsonl", content), purpose="batch", **more)


def start(client: openai.OpenAI, file_id: str) -> Any:
    return client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def new_tenant(gateway: Gateway, **key: Any) -> tuple[Tenant, str]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        count = Tenant.objects.count()
        tenant = Tenant.objects.create(slug=f"o{count}-{gateway.tenant.slug}", name="Other")
        _, secret = create_key(tenant=tenant, label="proxy", **key)
    gateway.running_state.keys.reload()
    return tenant, secret.reveal()


def used_keys(gateway: Gateway) -> set[str]:
    return {seen.headers.get("authorization", "") for seen in gateway.world.requests}


def test_a_file_comes_and_goes(gateway: Gateway, client: openai.OpenAI) -> None:
    content = b'{"a": 1}\r\n\x00\xff' * 1000
    made = client.files.create(file=("a.bin", content), purpose="user_data")
    assert made.bytes == len(content)
    assert client.files.retrieve(made.id).filename == "a.bin"
    got = client.files.content(made.id)
    assert got.content == content
    assert got.response.headers["content-type"] == "application/octet-stream"
    assert got.response.headers["x-content-type-options"] == "nosniff"
    assert len(used_keys(gateway)) == 1, "the credential that made it, and no other"
    assert [file.id for file in client.files.list(purpose="user_data")] == [made.id]
    assert list(client.files.list(purpose="batch")) == []
    assert client.files.delete(made.id).deleted
    for act in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            act(made.id)
    assert list(client.files.list()) == []


def test_a_list_has_pages(client: openai.OpenAI) -> None:
    made = [
        client.files.create(file=(f"{n}.txt", b"text"), purpose="user_data").id for n in range(5)
    ]
    assert [file.id for file in client.files.list(limit=2)] == made[::-1], "the SDK turns them"
    page = client.files.list(limit=2, order="asc")
    assert [file.id for file in page.data] == made[:2]
    assert page.has_more
    assert [file.id for file in client.files.list(after=made[1], order="asc")] == made[2:]
    with pytest.raises(openai.BadRequestError):
        client.files.list(limit=0)
    with pytest.raises(openai.NotFoundError):
        client.files.list(after="file-unknown")


@pytest.mark.storage
def test_another_tenants_file_is_not_there(gateway: Gateway, client: openai.OpenAI) -> None:
    """Both have the same credential at the vendor: only our rows keep them apart."""
    made = batch_file(client, line("one"))
    batch = start(client, made.id)
    _, key = new_tenant(gateway)
    asked = len(gateway.world.requests)
    with sdk(gateway, key) as other:
        for act in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError) as caught:
                act(made.id)
            assert made.id in caught.value.message
        for act in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                act(batch.id)
        with pytest.raises(openai.NotFoundError):
            start(other, made.id)
        with pytest.raises(openai.NotFoundError):
            other.files.list(after=made.id)
        assert list(other.files.list()) == []
        assert list(other.batches.list()) == []
    assert len(gateway.world.requests) == asked, "nobody was asked"
    assert client.files.retrieve(made.id).id == made.id


def test_a_batch_is_answered(gateway: Gateway, client: openai.OpenAI) -> None:
    made = batch_file(client, line("one", "shelf/sim-gpt"), line("two", "sim-gpt+text"))
    batch = start(client, made.id)
    assert batch.status == "validating"
    assert [each.id for each in client.batches.list()] == [batch.id]
    gateway.world.advance(6)
    done = client.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.completed == 2
    assert done.output_file_id is not None
    answers = client.files.content(done.output_file_id).text.splitlines()
    assert {json.loads(text)["custom_id"] for text in answers} == {"one", "two"}
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
    assert len(used_keys(gateway)) == 1
    assert not gateway.world.violations


def test_a_batch_is_cancelled(gateway: Gateway, client: openai.OpenAI) -> None:
    batch = start(client, batch_file(client, line("one")).id)
    assert client.batches.cancel(batch.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_models_of_a_batch_are_those_of_the_key(gateway: Gateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        batch_file(client, line("one"), line("two", "nobody"))
    # They exist, at somebody who answers no batches, or not where the others are.
    with pytest.raises(openai.BadRequestError, match="shelf"):
        batch_file(client, line("one", "sim-openai/sim-gpt"))
    _, key = new_tenant(gateway, allowed_models=["shelf/*"])
    with sdk(gateway, key) as narrow:
        assert batch_file(narrow, line("one", "shelf/sim-gpt"))
        with pytest.raises(openai.NotFoundError):
            batch_file(narrow, line("one", "sim-gpt"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no request"),
        (b"{}\n", "Line 1"),
        (b"not json\n", "Line 1"),
        (line("one").encode() + b'\n{"body": {"model": 5}}', "Line 2"),
    ],
)
def test_what_is_no_batch_is_said(client: openai.OpenAI, content: bytes, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.files.create(file=("in.jsonl", content), purpose="batch")


def test_forms_that_are_none(gateway: Gateway) -> None:
    url = f"{gateway.url}/v1/files"
    file = ("a.txt", b"text")
    for sent in (
        {"json": {"purpose": "batch"}},
        {"data": {"purpose": "batch"}},
        {"files": {"file": file}},
        {"files": {"other": file}, "data": {"purpose": "user_data"}},
        {"files": [("file", file), ("file", file)], "data": {"purpose": "user_data"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"content": b"--b\r\n", "headers": {"content-type": "multipart/form-data"}},
    ):
        headers = gateway.headers(**sent.pop("headers", {}))
        answer = httpx.post(url, headers=headers, **sent)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["message"]
    assert not gateway.world.requests
    too_much = {"file": ("a.bin", b"\0" * (65 * 2**20))}
    answer = httpx.post(url, headers=gateway.headers(), files=too_much, data={"purpose": "vision"})
    assert answer.status_code == 413


def test_a_large_file_arrives_whole(client: openai.OpenAI) -> None:
    content = bytes(range(256)) * (20 * 2**12)
    made = client.files.create(file=("large.bin", content), purpose="user_data")
    assert made.bytes == len(content)
    assert client.files.content(made.id).content == content


def test_who_gets_a_file_is_said_or_asked(
    gateway: Gateway, client: openai.OpenAI, simulated: tuple[str, Any]
) -> None:
    """A tenant with a provider of its own beside the platform's."""
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        provider = services.register(
            slug="second",
            protocol="openai-completions",
            base_url=f"{simulated[0]}/openai/v1",
            features=FEATURES,
        )
        store_key(provider=provider, label="one", secret=Secret("sim-second"))
        services.add_model(provider=provider, upstream_id="sim-second", facts=FACTS)
    try:
        gateway.running_state.tables.forget()
        file = ("a.txt", b"text")
        with pytest.raises(openai.BadRequestError, match="second, shelf"):
            client.files.create(file=file, purpose="user_data")
        with pytest.raises(openai.BadRequestError, match="none of them"):
            client.files.create(file=file, purpose="user_data", extra_query={"provider": "x"})
        for more in (
            {"extra_query": {"provider": "second"}},
            {"extra_headers": {"X-Route-Provider": "second"}},
            {"extra_query": {"model": "sim-second"}},
        ):
            made = client.files.create(file=file, purpose="user_data", **more)
            with scope.platform("tests"):
                assert VendorObject.objects.get(upstream_id=made.id).provider == provider
        # What a batch asks says it as well.
        made = batch_file(client, line("one", "sim-second"))
        with scope.platform("tests"):
            assert VendorObject.objects.get(upstream_id=made.id).provider == provider
        gone = client.files.create(
            file=file, purpose="user_data", extra_query={"provider": "second"}
        )
    finally:
        with acting_as("command", None, "tests", ""), scope.platform("tests"):
            Credential.objects.filter(provider=provider).delete()
            provider.delete()
        gateway.running_state.tables.forget()
    with pytest.raises(openai.ConflictError):
        client.files.retrieve(gone.id)


def test_a_batch_needs_its_file(client: openai.OpenAI) -> None:
    other = client.files.create(file=("a.jsonl", line("one").encode()), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="purpose `batch`"):
        start(client, other.id)
    for file_id in ("file-unknown", "../../models", "x" * 900):
        with pytest.raises(openai.NotFoundError):
            start(client, file_id)


def test_a_batch_must_fit_into_the_budget(gateway: Gateway, client: openai.OpenAI) -> None:
    tenant, key = new_tenant(gateway)
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        Limit.objects.create(
            tenant=tenant, scope_kind="tenant", kind="money", period="total", amount=1_000_000
        )
    gateway.running_state.metering.limits.reload()
    with sdk(gateway, key) as poor:
        made = batch_file(poor, line("one", max_tokens=100_000_000))
        with pytest.raises(openai.APIStatusError) as caught:
            start(poor, made.id)
        assert caught.value.status_code in (402, 429)
        small = batch_file(poor, line("one", max_tokens=10))
        assert start(poor, small.id).status == "validating"


def test_paths_and_methods(gateway: Gateway) -> None:
    headers = gateway.headers()
    for method, path, status in (
        ("PUT", "/v1/files", 405),
        ("POST", "/v1/files/file-x", 405),
        ("DELETE", "/v1/batches/batch_x", 405),
        ("GET", "/v1/batches/batch_x/cancel", 405),
        ("GET", "/v1/files/file-x/cancel", 404),
        ("GET", "/v1/batches/batch_x/content", 404),
        ("GET", "/v1/files/file-x/content/more", 404),
        ("GET", "/openai/v1/files/file-x", 404),
        ("GET", "/openai/files", 200),
    ):
        answer = httpx.request(method, gateway.url + path, headers=headers)
        assert answer.status_code == status, (method, path, answer.text)
    assert httpx.get(f"{gateway.url}/v1/files").status_code == 401


def ask_about(client: openai.OpenAI, file_id: str, model: str = "sim-gpt") -> Any:
    about: Any = [
        {"type": "text", "text": "Read it"},
        {"type": "file", "file": {"file_id": file_id}},
    ]
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": about}]
    )


def test_a_request_goes_where_its_file_is(gateway: Gateway, client: openai.OpenAI) -> None:
    """There are two registrations and three keys for this model, and one that took the file."""
    made = client.files.create(file=("a.pdf", b"%PDF-"), purpose="user_data")
    gateway.world.requests.clear()
    for _ in range(4):
        ask_about(client, made.id)
    keys = used_keys(gateway)
    assert len(keys) == 1
    with scope.platform("tests"):
        label = VendorObject.objects.get(upstream_id=made.id).credential.label
    assert keys == {masked(f"Bearer sim-shelf-{label}")}
    with pytest.raises(openai.BadRequestError, match="shelf"):
        ask_about(client, made.id, "sim-openai/sim-gpt")


@pytest.mark.storage
def test_a_request_cannot_name_another_tenants_file(
    gateway: Gateway, client: openai.OpenAI
) -> None:
    """The vendor would read it out: to it, both are the same customer."""
    made = client.files.create(file=("a.pdf", b"%PDF-"), purpose="user_data")
    _, key = new_tenant(gateway)
    asked = len(gateway.world.requests)
    with sdk(gateway, key) as other:
        with pytest.raises(openai.NotFoundError, match=made.id):
            ask_about(other, made.id)
        with pytest.raises(openai.NotFoundError, match=made.id):
            batch_file(other, line("one"), line("two", file_id=made.id))
        hidden = json.dumps(
            {"model": "sim-gpt", "messages": [], "metadata": {"file_id": made.id}}
        ).replace("file_id", "fi\\u006ce_id")
        answer = httpx.post(
            f"{gateway.url}/v1/responses",
            headers={"Authorization": f"Bearer {key}"},
            content=hidden,
        )
        assert answer.status_code == 404, answer.text
        # What nobody here has uploaded may be at the vendor all the same: it will say.
        ask_about(other, "file-of-nobody")
    assert len(gateway.world.requests) == asked + 1


def ledger(tenant: Tenant) -> list[UsageEvent]:
    with scope.platform("tests"):
        return list(UsageEvent.objects.filter(tenant=tenant).order_by("sequence"))


def settle(minutes: float = 2) -> None:
    while settle_due(now=clock.now() + timedelta(minutes=minutes)):
        continue


@pytest.mark.storage
def test_a_batch_is_charged_when_it_is_done(gateway: Gateway, client: openai.OpenAI) -> None:
    tenant, key = new_tenant(gateway)
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        limit = Limit.objects.create(
            tenant=tenant, scope_kind="tenant", kind="money", period="total", amount=10**12
        )
    gateway.running_state.metering.limits.reload()
    with sdk(gateway, key) as caller:
        caller.chat.completions.create(
            model="shelf/sim-gpt", messages=[{"role": "user", "content": "Hello"}]
        )
        (chat,) = ledger(tenant)
        file = batch_file(caller, *(line(str(number), "shelf/sim-gpt") for number in range(4)))
        batch = start(caller, file.id)
        settle()
        assert {event.cost_nanos for event in ledger(tenant)[1:]} == {0}, "not before it is done"
        gateway.world.advance(6)
        settle(20)
        settle(40)
        *before, charged = ledger(tenant)
        assert [event.operation for event in before] == ["chat", "files", "batches"]
        assert charged.operation == "batches"
        assert charged.trace_id == batch.id
        assert (charged.model_asked, charged.model_served) == ("shelf/sim-gpt", "sim-gpt")
        assert charged.provider == "shelf"
        assert charged.key_id == chat.key_id
        assert charged.usage_source == UsageEvent.Source.REPORTED
        assert charged.cost_nanos is not None
        assert charged.price_version == chat.price_version
        # Everybody knows now whose the files are that it made, also before anyone asked for it.
        (made,) = [one for one in caller.files.list() if one.purpose == "batch_output"]
        answers = caller.files.content(made.id).text.splitlines()
    usages = [json.loads(text)["response"]["body"]["usage"] for text in answers]
    assert charged.input == sum(usage["prompt_tokens"] for usage in usages) > 0
    assert charged.output == sum(usage["completion_tokens"] for usage in usages) > 0
    price = next(one for one in catalog()["simulator"].models if one.id == "sim-gpt").price
    whole = cost_nanos(Usage(input=charged.input, output=charged.output), price)
    assert charged.cost_nanos * 2 == whole, "at half the price"
    with scope.platform("tests"):
        used = sum(
            Counter.objects.filter(key__startswith=limit.id.hex).values_list("settled", flat=True)
        )
    assert used == (chat.cost_nanos or 0) + charged.cost_nanos


def test_a_batch_is_charged_by_the_price_agreed_when_it_was_made(
    gateway: Gateway, client: openai.OpenAI
) -> None:
    tenant, key = new_tenant(gateway)
    now = clock.now()
    prices = [
        {
            "model": "shelf/*",
            "effective_from": (now + timedelta(days=days)).isoformat(),
            "price": {"input": amount, "output": amount, "service_tiers": {"batch": "0.5"}},
        }
        for days, amount in ((-1, "40"), (1, "99"))
    ]
    with acting_as("command", None, "tests", ""), scope.tenant(tenant.id):
        change_policy(tenant=tenant, version=1, price_list=prices)
    with sdk(gateway, key) as caller:
        batch = start(caller, batch_file(caller, line("one", "shelf/sim-gpt")).id)
        gateway.world.advance(6)
        settle()
        settle(20)
    (charged,) = [event for event in ledger(tenant) if event.trace_id == batch.id]
    assert charged.charge_nanos == 20_000 * (charged.input + charged.output) > 0
    assert charged.cost_nanos != charged.charge_nanos
    assert re.fullmatch("[0-9a-f]{16}/[0-9a-f]{16}", charged.price_version)


def test_a_batch_without_answers_costs_nothing(gateway: Gateway, client: openai.OpenAI) -> None:
    tenant, key = new_tenant(gateway)
    with sdk(gateway, key) as caller:
        batch = start(caller, batch_file(caller, line("one")).id)
        caller.batches.cancel(batch.id)
        settle()
        settle(20)
    charged = [event for event in ledger(tenant) if event.trace_id == batch.id]
    assert [(event.input, event.cost_nanos) for event in charged] == [(0, 0)]


def test_a_batch_that_nobody_can_be_asked_about_is_unknown(
    gateway: Gateway, client: openai.OpenAI
) -> None:
    tenant, key = new_tenant(gateway)
    with sdk(gateway, key) as caller:
        batch = start(caller, batch_file(caller, line("one", max_tokens=50)).id)
    gateway.world.reset()
    settle()
    assert not [event for event in ledger(tenant) if event.trace_id == batch.id], "it may come back"
    settle(GIVEN_UP_AFTER / timedelta(minutes=1) + 1)
    (charged,) = [event for event in ledger(tenant) if event.trace_id == batch.id]
    assert charged.input is None
    assert charged.cost_nanos is None
    assert charged.estimated_output == 50
    assert charged.estimated_nanos > 0
    assert charged.error_code == "batch_lost"
