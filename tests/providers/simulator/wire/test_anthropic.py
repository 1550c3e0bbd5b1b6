"""Anthropic Messages: the official client understands every scenario, every rule has a breaker."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from providers.simulator import proofs
from providers.simulator.scenarios import PIXEL, SCENARIOS, UNICODE
from providers.simulator.wire.anthropic import IDENTITY
from tests.providers.simulator.raw_http import Answer, ask, claude
from tests.providers.simulator.wire.sdk import ERRORS, anthropic_client
from tests.simulator_server import SimulatorServer

PATH = "/anthropic/v1/messages"
COUNT = f"{PATH}/count_tokens"
USER: dict[str, Any] = {"role": "user", "content": "hello"}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
THINKS = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}


@pytest.fixture
def client(simulator: SimulatorServer) -> Iterator[anthropic.Anthropic]:
    with anthropic_client(simulator) as made:
        yield made


def post(simulator: SimulatorServer, path: str = PATH, **fields: Any) -> Answer:
    headers = {"authorization": "", "x-api-key": "sk-ant-test"}
    return ask(simulator.url, path, {**claude("sim-claude"), **fields}, headers=headers)


# --- the official client -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_official_client_reads_the_same_both_ways(
    client: anthropic.Anthropic, name: str
) -> None:
    asked: dict[str, Any] = {
        "model": f"sim-claude+{name}",
        "max_tokens": 4096,
        "messages": [USER],
        "tools": [WEATHER],
    }
    if name == "badargs":
        # Cut JSON cannot stand in a whole answer; the stream carries it as it is.
        deltas = [
            event.delta.partial_json
            for event in client.messages.create(**asked, stream=True)
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta"
        ]
        assert "".join(deltas) == '{"city": "Ber'
        return
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_message()
    assert [block.model_dump(exclude={"id"}) for block in whole.content] == [
        block.model_dump(exclude={"id", "parsed_output"}) for block in final.content
    ]
    ids = [block.id for block in whole.content if block.type == "tool_use"]
    assert all(id_.startswith("toolu_") for id_ in ids)
    assert whole.stop_reason == final.stop_reason
    assert whole.usage.output_tokens == final.usage.output_tokens
    assert whole.usage.input_tokens == final.usage.input_tokens


def test_unicode_survives(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="sim-claude+unicode", max_tokens=999, messages=[USER]
    ) as stream:
        assert "".join(stream.text_stream) == UNICODE


def test_an_agent_turn_with_thoughts(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {**THINKS, "tools": [WEATHER]}
    first = client.messages.create(model="sim-claude+thinktool", messages=[USER], **asked)
    thought, call = first.content
    assert (thought.type, call.type) == ("thinking", "tool_use")
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    again: Any = [
        USER,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    second = client.messages.create(model="sim-claude+loop", messages=again, **asked)
    assert second.content[0].type == "text"
    assert second.content[0].text == "The tool has answered."


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="sim-claude", messages=[USER], tools=[WEATHER])
    assert counted.input_tokens > 0


def test_models_are_listed_in_pages(client: anthropic.Anthropic) -> None:
    names = [model.id for model in client.models.list(limit=1)]
    assert names[0] == "sim-claude"
    assert len(names) == len(set(names)) >= 2
    assert client.models.retrieve("sim-claude").display_name == "Sim Claude"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-2")


def test_structured_output(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    answer = client.messages.create(
        model="sim-claude",
        max_tokens=99,
        messages=[USER],
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text == '{"city":"simulated"}'


def test_cached_tokens_stand_beside_the_input(client: anthropic.Anthropic) -> None:
    usage = client.messages.create(
        model="sim-claude+cached+read=9+write=5+write1h=2", max_tokens=99, messages=[USER]
    ).usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (9, 5)
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_1h_input_tokens == 2


@pytest.mark.parametrize(("status", "name"), ERRORS.items())
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients_own(
    client: anthropic.Anthropic, status: int, name: str, stream: bool
) -> None:
    expected = {529: "OverloadedError", 503: "ServiceUnavailableError"}.get(status, name)
    kind = getattr(anthropic, expected, None) or getattr(anthropic._exceptions, expected)
    with pytest.raises(kind) as caught:
        client.messages.create(
            model=f"sim-claude+status={status}", max_tokens=9, messages=[USER], stream=stream
        )
    assert caught.value.request_id.startswith("req_")


def test_an_error_in_mid_stream_is_raised(client: anthropic.Anthropic) -> None:
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        client.messages.stream(
            model="sim-claude+text+miderror=4", max_tokens=99, messages=[USER]
        ) as stream,
    ):
        list(stream)


async def test_the_asynchronous_client(simulator: SimulatorServer) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=f"{simulator.url}/anthropic", api_key="sk", max_retries=0
    ) as client:
        answer = await client.messages.create(model="sim-claude", max_tokens=99, messages=[USER])
        assert answer.content[0].type == "text"
        async with client.messages.stream(
            model="sim-claude+tools", max_tokens=99, messages=[USER]
        ) as stream:
            final = await stream.get_final_message()
        assert final.stop_reason == "tool_use"


# --- headers -------------------------------------------------------------------------------------


def test_limits_are_told_with_every_answer(simulator: SimulatorServer) -> None:
    headers = [post(simulator).headers for _ in range(2)]
    left = [int(found["anthropic-ratelimit-requests-remaining"]) for found in headers]
    assert left[1] == left[0] - 1
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        for field in ("limit", "remaining", "reset"):
            assert headers[0][f"anthropic-ratelimit-{kind}-{field}"]
    assert headers[0]["request-id"] != headers[1]["request-id"]


def subscription(simulator: SimulatorServer, system: Any = IDENTITY, **headers: str) -> Answer:
    given = {
        "authorization": "Bearer sk-ant-oat01-person",
        "anthropic-beta": "claude-code-20250219,oauth-2025-04-20",
        **headers,
    }
    return ask(simulator.url, PATH, {**claude("sim-claude"), "system": system}, headers=given)


def test_a_persons_login_is_taken(simulator: SimulatorServer) -> None:
    blocks = [{"type": "text", "text": IDENTITY}, {"type": "text", "text": "Be kind."}]
    for system in (IDENTITY, blocks):
        answer = subscription(simulator, system)
        assert answer.status == 200
        assert answer.headers["anthropic-ratelimit-unified-status"] == "allowed"
        assert "anthropic-ratelimit-requests-limit" not in answer.headers


@pytest.mark.parametrize("headers", [{"anthropic-beta": ""}, {"x-api-key": "sk-ant-oat01-x"}])
def test_a_persons_login_comes_with_its_headers(
    simulator: SimulatorServer, headers: dict[str, str]
) -> None:
    answer = subscription(simulator, **headers)
    assert (answer.status, simulator.rules()) == (401, ["subscription_headers"])


@pytest.mark.parametrize("system", [None, "Be kind.", [{"type": "text", "text": "Be kind."}], []])
def test_a_persons_login_is_for_the_vendors_own_client(
    simulator: SimulatorServer, system: Any
) -> None:
    answer = subscription(simulator, system)
    assert (answer.status, simulator.rules()) == (400, ["identity"])
    assert "only authorized for use with Claude Code" in answer.json()["error"]["message"]


@pytest.mark.parametrize("version", ["", "latest", "2023-6-1"])
def test_a_request_names_its_version(simulator: SimulatorServer, version: str) -> None:
    headers = {"anthropic-version": version}
    answer = ask(simulator.url, PATH, claude("sim-claude"), headers=headers)
    assert (answer.status, simulator.rules()) == (400, ["version"])


# --- what the vendor refuses ---------------------------------------------------------------------


def messages(*found: Any) -> dict[str, Any]:
    return {"messages": list(found)}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(said: str = "x", **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **fields}


def use(id_: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": "weather", "input": {}, **fields}


def result(id_: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, **fields}


def thought(said: str = "x", **fields: Any) -> dict[str, Any]:
    signature = proofs.make("sim-claude", "x")
    return {"type": "thinking", "thinking": said, "signature": signature, **fields}


def image(**source: Any) -> dict[str, Any]:
    whole = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    return {"type": "image", "source": {**whole, **source}}


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [{**WEATHER, **fields}]}


MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
PDF = base64.b64encode(b"%PDF-1.4").decode()
BREAKERS: list[tuple[str, dict[str, Any]]] = [
    ("unknown_field", {"n": 2}),
    ("unknown_field", {"max_completion_tokens": 5}),
    ("range", {"max_tokens": -1}),
    ("range", {"max_tokens": "many"}),
    ("range", {"temperature": 1.5}),
    ("range", {"top_p": 2}),
    ("range", {"top_k": -1}),
    ("two_samplings", {"temperature": 0.5, "top_p": 0.5}),
    ("thinking_temperature", {**THINKS, "temperature": 0.5}),
    ("thinking_top_k", {**THINKS, "top_k": 5}),
    ("range", {**THINKS, "top_p": 0.5}),
    ("budget", {**THINKS, "max_tokens": 1024}),
    ("range", {"thinking": {"type": "enabled", "budget_tokens": 1000}}),
    ("budget", {"thinking": {"type": "adaptive", "budget_tokens": 2000}}),
    ("enum", {"thinking": {"type": "deep"}}),
    ("enum", {"thinking": {"type": "adaptive", "display": "all"}}),
    ("empty_text", {"stop_sequences": [" "]}),
    ("unknown_field", {"metadata": {"name": "x"}}),
    ("enum", {"service_tier": "flex"}),
    ("enum", {"speed": "slow"}),
    ("enum", {"output_config": {"effort": "minimal"}}),
    ("enum", {"output_config": {"format": {"type": "json_object"}}}),
    ("messages", messages()),
    ("first_role", messages(assistant(text()))),
    ("enum", messages({"role": "tool", "content": "x"})),
    ("unknown_field", messages({**USER, "name": "x"})),
    ("system_place", messages(USER, {"role": "system", "content": "x"}, USER)),
    ("empty", messages(user())),
    ("empty", messages(USER, assistant(), USER)),
    ("empty_text", messages(user(text("")))),
    ("enum", messages(user({"type": "input_text", "text": "x"}))),
    ("unknown_field", messages(user(text(annotations=[])))),
    ("trailing_space", messages(USER, assistant(text("So ")))),
    ("prefill", {**THINKS, **messages(USER, assistant(text("So")))}),
    ("media_type", messages(user(image(media_type="image/jpeg")))),
    ("base64", messages(user(image(data="!!")))),
    ("enum", messages(user(image(media_type="image/tiff")))),
    ("enum", messages(user(image(type="link")))),
    ("url", messages(user({"type": "image", "source": {"type": "url", "url": "http://x.y"}}))),
    ("enum", messages(user({"type": "document", "source": image()["source"]}))),
    ("orphan_result", messages(user(result()))),
    ("missing_result", messages(USER, assistant(use()))),
    ("missing_result", messages(USER, assistant(use()), USER)),
    ("missing_result", messages(USER, assistant(use("a"), use("b")), user(result("a")))),
    ("orphan_result", messages(USER, assistant(use()), user(result(), result()))),
    ("result_order", messages(USER, assistant(use()), user(text(), result()))),
    (
        "error_image",
        messages(USER, assistant(use()), user(result(is_error=True, content=[image()]))),
    ),
    ("call_id", messages(USER, assistant(use("a b")), user(result("a b")))),
    ("call_id", messages(USER, assistant(use(), use()), user(result()))),
    ("tool_name", messages(USER, assistant(use(name="a b")), user(result()))),
    ("type", messages(USER, assistant(use(input="{}")), user(result()))),
    ("signature", messages(USER, assistant(thought(signature=""), text()), USER)),
    ("signature", messages(USER, assistant(thought(signature="c2ln"), text()), USER)),
    ("signature", messages(USER, assistant(thought("other words"), text()), USER)),
    (
        "signature",
        messages(USER, assistant(thought(signature=proofs.make("sim-gpt", "x")), text()), USER),
    ),
    (
        "signature",
        messages(USER, assistant({"type": "redacted_thinking", "data": "c2ln"}, text()), USER),
    ),
    (
        "thinking_first",
        {**THINKS, **messages(USER, assistant(text(), use()), user(result()))},
    ),
    ("tool_name", tool(name="a b")),
    ("tool_type", tool(type="function")),
    ("tool_type", tool(type="web_search")),
    ("unknown_field", tool(parameters={})),
    ("schema_root", tool(input_schema={"type": "string"})),
    ("schema_root", tool(input_schema={"type": "object", "anyOf": []})),
    ("type", tool(input_schema=None)),
    ("duplicate_tool", {"tools": [WEATHER, WEATHER]}),
    ("tool_choice", {"tool_choice": {"type": "auto"}}),
    ("tool_choice", {**tool(), "tool_choice": {"type": "tool", "name": "other"}}),
    ("enum", {**tool(), "tool_choice": {"type": "required"}}),
    ("thinking_tool_choice", {**THINKS, **tool(), "tool_choice": {"type": "any"}}),
    ("system", {"system": [image()]}),
    ("empty_text", {"system": [text("")]}),
    ("cache_marks", messages(user(*[text(**MARK)] * 5))),
    ("cache_order", messages(user(text(**MARK), text(**HOUR)))),
    ("enum", messages(user(text(cache_control={"type": "forever"})))),
    ("enum", messages(user(text(cache_control={"type": "ephemeral", "ttl": "1d"})))),
    ("unknown_field", messages(USER, assistant(thought(**MARK), text()), USER)),
]


@pytest.mark.parametrize(("rule", "fields"), BREAKERS)
def test_every_rule_has_a_breaker(
    simulator: SimulatorServer, rule: str, fields: dict[str, Any]
) -> None:
    answer = post(simulator, **fields)
    assert (answer.status, simulator.rules()) == (400, [rule])
    error = answer.json()
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")


def test_a_limit_must_be_said(simulator: SimulatorServer) -> None:
    body = {"model": "sim-claude", "messages": [USER]}
    answer = ask(simulator.url, PATH, body)
    assert (answer.status, simulator.rules()) == (400, ["max_tokens"])
    assert answer.json()["error"]["message"] == "max_tokens: Field required"


def test_counting_takes_no_limit(simulator: SimulatorServer) -> None:
    answer = post(simulator, COUNT)
    assert (answer.status, simulator.rules()) == (400, ["unknown_field"])


@pytest.mark.parametrize(
    "fields",
    [
        messages(USER, assistant(use("a"), use("b")), user(result("b"), result("a"), text())),
        messages(USER, assistant(thought(), text()), USER),
        messages(USER, assistant(thought(""), text()), USER),
        messages(USER, USER, {"role": "system", "content": "x"}, assistant(text()), USER),
        messages(user(image(), {"type": "image", "source": {"type": "url", "url": "https://x.y"}})),
        messages(
            user(
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                }
            )
        ),
        messages(user(text(**HOUR), text(**MARK))),
        {**THINKS, **tool(), "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"max_tokens": 0},
        {"thinking": {"type": "disabled"}, "temperature": 0},
    ],
)
def test_what_is_right_is_answered(simulator: SimulatorServer, fields: dict[str, Any]) -> None:
    answer = post(simulator, **fields)
    assert (answer.status, simulator.rules()) == (200, [])
