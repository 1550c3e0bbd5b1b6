"""Chat Completions: the official client reads every scenario, and every rule has a breaker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from providers.simulator.scenarios import PIXEL, SCENARIOS, UNICODE
from tests.providers.simulator.raw_http import ask, chat
from tests.providers.simulator.wire.sdk import ERRORS, openai_client
from tests.simulator_server import SimulatorServer

PATH = "/openai/v1/chat/completions"
USER: dict[str, Any] = {"role": "user", "content": "hello"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def client(simulator: SimulatorServer) -> Iterator[openai.OpenAI]:
    with openai_client(simulator) as made:
        yield made


# --- the official client -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_official_client_reads_the_same_both_ways(client: openai.OpenAI, name: str) -> None:
    asked: dict[str, Any] = {
        "model": f"sim-gpt+{name}",
        "messages": [USER],
        "tools": [WEATHER],
    }
    whole = client.chat.completions.create(**asked).choices[0]
    text, refusal, calls, reason = "", "", {}, None
    for chunk in client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ):
        if not chunk.choices:
            assert chunk.usage is not None
            continue
        delta = chunk.choices[0].delta
        text += delta.content or ""
        refusal += delta.refusal or ""
        for call in delta.tool_calls or []:
            entry = calls.setdefault(call.index, ["", ""])
            entry[0] += (call.function.name if call.function else "") or ""
            entry[1] += (call.function.arguments if call.function else "") or ""
        reason = chunk.choices[0].finish_reason or reason
    assert (whole.message.content or "") == text
    assert (whole.message.refusal or "") == refusal
    made = [[c.function.name, c.function.arguments] for c in whole.message.tool_calls or []]
    assert made == list(calls.values())
    assert whole.finish_reason == reason


def test_unicode_survives(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-gpt+unicode", messages=[USER])
    assert answer.choices[0].message.content == UNICODE


def test_an_agent_turn(client: openai.OpenAI) -> None:
    messages: list[Any] = [USER]
    asked: dict[str, Any] = {"model": "sim-gpt+loop", "tools": [WEATHER]}
    first = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert first.finish_reason == "tool_calls"
    messages.append(first.message)
    for call in first.message.tool_calls or []:
        assert json.loads(call.function.arguments) == {"city": "simulated"}
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    second = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert second.message.content == "The tool has answered."


def test_several_choices_and_their_probabilities(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "sim-gpt+text+tokens=4",
        "messages": [USER],
        "n": 3,
        "logprobs": True,
        "top_logprobs": 2,
    }
    answer = client.chat.completions.create(**asked)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert choice.logprobs is not None
        tokens = [entry.token for entry in choice.logprobs.content or []]
        assert "".join(tokens) == choice.message.content
        assert all(len(entry.top_logprobs) == 2 for entry in choice.logprobs.content or [])
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    texts = {0: "", 1: "", 2: ""}
    order: list[int] = []
    for chunk in client.chat.completions.create(**asked, stream=True):
        for part in chunk.choices:
            texts[part.index] += part.delta.content or ""
            order.append(part.index)
    assert set(texts.values()) == {answer.choices[0].message.content}
    assert order != sorted(order)


def test_structured_output(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
        "required": ["city", "degrees"],
        "additionalProperties": False,
    }
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "weather", "schema": schema, "strict": True},
    }
    answer = client.chat.completions.create(model="sim-gpt", messages=[USER], response_format=form)
    assert json.loads(answer.choices[0].message.content or "") == {
        "city": "simulated",
        "degrees": 7,
    }


def test_legacy_functions_are_answered_in_their_form(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "sim-gpt",
        "messages": [USER],
        "functions": [WEATHER["function"]],
        "function_call": {"name": "weather"},
    }
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert choice.message.function_call.name == "weather"
    result = {"role": "function", "name": "weather", "content": "sunny"}
    messages = [USER, choice.message, result]
    again = client.chat.completions.create(**{**asked, "messages": messages})
    assert again.choices[0].finish_reason == "stop"


def test_a_custom_tool_gets_free_text(client: openai.OpenAI) -> None:
    tool: Any = {"type": "custom", "custom": {"name": "shell"}}
    answer = client.chat.completions.create(model="sim-gpt+tool", messages=[USER], tools=[tool])
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "custom"
    assert call.custom.input == "simulated input"


def test_images_are_echoed_by_kind_and_size(client: openai.OpenAI) -> None:
    parts: Any = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    answer = client.chat.completions.create(
        model="sim-gpt", messages=[{"role": "user", "content": parts}]
    )
    assert "[image image/png, 69 bytes]" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize(("status", "name"), ERRORS.items())
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients_own(
    client: openai.OpenAI, status: int, name: str, stream: bool
) -> None:
    with pytest.raises(getattr(openai, name)) as caught:
        client.chat.completions.create(
            model=f"sim-gpt+status={status}", messages=[USER], stream=stream
        )
    assert caught.value.status_code == status
    assert caught.value.request_id.startswith("req_")


def test_an_error_in_mid_stream_is_raised(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="sim-gpt+text+miderror=3", messages=[USER], stream=True
    )
    with pytest.raises(openai.APIError, match="Overloaded"):
        list(stream)


def test_a_used_up_quota_is_told_from_a_rate_limit(client: openai.OpenAI) -> None:
    for fault, code in (("quota=60", "insufficient_quota"), ("status=429", "rate_limit_exceeded")):
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=f"sim-gpt+{fault}", messages=[USER])
        assert caught.value.code == code


async def test_the_asynchronous_client(simulator: SimulatorServer) -> None:
    base = f"{simulator.url}/openai/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key="sk", max_retries=0) as client:
        answer = await client.chat.completions.create(model="sim-gpt", messages=[USER])
        assert answer.choices[0].message.content == "You said: hello"
        stream = await client.chat.completions.create(
            model="sim-gpt+text", messages=[USER], stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert len("".join(pieces)) > 50
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="sim-gpt+status=500", messages=[USER])


def test_limits_are_told_with_every_answer(simulator: SimulatorServer) -> None:
    first = ask(simulator.url, PATH, chat("sim-gpt"))
    second = ask(simulator.url, PATH, chat("sim-gpt"))
    left = [int(a.headers["x-ratelimit-remaining-requests"]) for a in (first, second)]
    assert left[1] == left[0] - 1
    assert first.headers["x-ratelimit-limit-tokens"] == "2000000"
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


# --- what the vendor refuses ---------------------------------------------------------------------


def call(id_: str = "call_1", **fields: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": "{}"}
    return {"id": id_, "type": "function", "function": function, **fields}


def assistant(*calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def result(id_: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": "sunny"}


def messages(*found: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [USER, *found]}


def parts(*found: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(found)}]}


def picture(url: str) -> dict[str, Any]:
    return parts({"type": "image_url", "image_url": {"url": url}})


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {**WEATHER["function"], **fields}}]}


def form(**fields: Any) -> dict[str, Any]:
    inner = {"name": "x", "schema": {"type": "object", "properties": {}}, **fields}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


OPEN_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
BREAKERS: list[tuple[str, dict[str, Any]]] = [
    ("unknown_field", {"unheard_of": 1}),
    ("two_limits", {"max_tokens": 5, "max_completion_tokens": 5}),
    ("range", {"temperature": 2.5}),
    ("range", {"temperature": "warm"}),
    ("range", {"top_p": 1.5}),
    ("range", {"presence_penalty": 3}),
    ("range", {"frequency_penalty": -3}),
    ("range", {"max_tokens": 0}),
    ("range", {"n": 0}),
    ("range", {"n": 129}),
    ("range", {"logprobs": True, "top_logprobs": 21}),
    ("logprobs", {"top_logprobs": 3}),
    ("stop", {"stop": ["a", "b", "c", "d", "e"]}),
    ("enum", {"reasoning_effort": "enormous"}),
    ("enum", {"verbosity": "loud"}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("cache_key", {"prompt_cache_key": "x" * 65}),
    ("metadata", {"metadata": {f"k{n}": "v" for n in range(17)}}),
    ("metadata", {"metadata": {"k" * 65: "v"}}),
    ("metadata", {"metadata": {"k": "v" * 513}}),
    ("type", {"metadata": {"k": 1}}),
    ("type", {"messages": "hello"}),
    ("messages", {"messages": []}),
    ("enum", {"messages": [{"role": "narrator", "content": "x"}]}),
    ("content", {"messages": [{"role": "user", "content": []}]}),
    ("enum", parts({"type": "input_text", "text": "x"})),
    ("data_url", picture("data:image/png,not-base64")),
    ("base64", picture("data:image/png;base64,!!!")),
    ("media_type", picture(f"data:image/jpeg;base64,{PIXEL}")),
    ("url", picture("ftp://example.com/x.png")),
    ("enum", parts({"type": "input_audio", "input_audio": {"format": "ogg", "data": "AA=="}})),
    ("file", parts({"type": "file", "file": {}})),
    ("orphan_result", messages(result())),
    ("missing_result", messages(assistant(call()))),
    ("missing_result", messages(assistant(call()), USER)),
    ("missing_result", messages(assistant(call("a"), call("b")), result("a"), USER)),
    ("orphan_result", messages(assistant(call()), result(), result())),
    ("call_id", messages(assistant(call("x" * 41)), result("x" * 41))),
    ("call_id", messages(assistant(call("a"), call("a")), result("a"))),
    ("empty_assistant", messages({"role": "assistant", "content": None})),
    (
        "tool_name",
        messages(assistant(call(function={"name": "a b", "arguments": ""})), result()),
    ),
    ("type", messages(assistant(call(function={"name": "a", "arguments": {}})), result())),
    ("tool_name", tool(name="not allowed")),
    ("tool_name", tool(name="x" * 65)),
    ("strict", tool(strict="yes")),
    ("strict_schema", tool(strict=True)),
    ("strict_schema", tool(strict=True, parameters={**OPEN_SCHEMA, "additionalProperties": False})),
    ("duplicate_tool", {"tools": [WEATHER, WEATHER]}),
    ("tools", {"tools": [WEATHER] * 129}),
    ("enum", {"tools": [{"type": "web_search"}]}),
    ("tool_choice", {"tool_choice": "auto"}),
    ("enum", {"tools": [WEATHER], "tool_choice": "sometimes"}),
    (
        "tool_choice",
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
    ),
    ("functions", {"tools": [WEATHER], "functions": [WEATHER["function"]]}),
    ("function_call", {"function_call": "auto"}),
    ("enum", {"response_format": {"type": "yaml"}}),
    ("json_word", {"response_format": {"type": "json_object"}}),
    ("schema_name", form(name="a b")),
    ("strict_schema", form(strict=True, schema=OPEN_SCHEMA)),
]


@pytest.mark.parametrize(("rule", "fields"), BREAKERS)
def test_every_rule_has_a_breaker(
    simulator: SimulatorServer, rule: str, fields: dict[str, Any]
) -> None:
    answer = ask(simulator.url, PATH, {**chat("sim-gpt"), **fields})
    assert (answer.status, simulator.rules()) == (400, [rule])
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize("model", ["", 5, None])
def test_a_request_names_its_model(simulator: SimulatorServer, model: Any) -> None:
    assert ask(simulator.url, PATH, {**chat("x"), "model": model}).status == 400


@pytest.mark.parametrize(
    "fields",
    [
        messages(assistant(call("a"), call("b")), result("b"), result("a"), USER),
        {"messages": [{"role": "developer", "content": "be kind"}, USER]},
        {"stop": "x"},
        {"stream": True, "stream_options": {"include_usage": True}},
        tool(
            strict=True,
            parameters={"type": "object", "properties": {}, "required": []}
            | {"additionalProperties": False},
        ),
        {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
    ],
)
def test_what_is_right_is_answered(simulator: SimulatorServer, fields: dict[str, Any]) -> None:
    answer = ask(simulator.url, PATH, {**chat("sim-gpt"), **fields})
    assert (answer.status, simulator.rules()) == (200, [])
