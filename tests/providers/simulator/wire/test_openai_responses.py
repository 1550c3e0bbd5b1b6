"""Responses: the official client understands every scenario, and every rule has a breaker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from providers.simulator import proofs
from providers.simulator.scenarios import PIXEL, SCENARIOS
from tests.providers.simulator.raw_http import Answer, ask
from tests.providers.simulator.wire.sdk import ERRORS, openai_client
from tests.simulator_server import SimulatorServer

PATH = "/openai/v1/responses"
ENCRYPTED = "reasoning.encrypted_content"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": None,
}
SHELL: dict[str, Any] = {"type": "custom", "name": "shell"}
USER: dict[str, Any] = {"role": "user", "content": "hello"}


@pytest.fixture
def client(simulator: SimulatorServer) -> Iterator[openai.OpenAI]:
    with openai_client(simulator) as made:
        yield made


def post(simulator: SimulatorServer, model: str = "sim-gpt", **fields: Any) -> Answer:
    return ask(simulator.url, PATH, {"model": model, "input": "hello", **fields})


def events_of(simulator: SimulatorServer, model: str, **fields: Any) -> list[dict[str, Any]]:
    answer = post(simulator, model, stream=True, **fields)
    assert answer.status == 200, answer.body
    return answer.events()


# --- the official client -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_official_client_reads_the_same_both_ways(client: openai.OpenAI, name: str) -> None:
    asked: dict[str, Any] = {
        "model": f"sim-gpt+{name}",
        "input": "hello",
        "include": [ENCRYPTED],
        "tools": [WEATHER],
    }
    whole = client.responses.create(**asked)
    final = None
    for event in client.responses.create(**asked, stream=True):
        if event.type in ("response.completed", "response.incomplete"):
            final = event.response
    assert final is not None
    assert [i.type for i in whole.output] == [i.type for i in final.output]
    assert whole.output_text == final.output_text
    assert (whole.status, whole.usage) == (final.status, final.usage)
    assert whole.usage is not None
    assert whole.usage.input_tokens_details.cached_tokens >= 0


def test_the_clients_own_aggregation_agrees_with_the_last_event(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="sim-gpt+thinktool", input="hello", tools=[WEATHER], include=[ENCRYPTED]
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert [item.type for item in final.output] == ["reasoning", "function_call"]


def test_a_turn_without_storage_comes_back_whole(client: openai.OpenAI) -> None:
    """Reasoning with its proof, the call, its output: what a stateless caller sends."""
    asked: dict[str, Any] = {
        "model": "sim-gpt+loop",
        "tools": [WEATHER],
        "store": False,
        "include": [ENCRYPTED],
    }
    first = client.responses.create(input=[USER], **{**asked, "model": "sim-gpt+thinktool"})
    (call,) = [item for item in first.output if item.type == "function_call"]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(input=[USER, *first.output, output], **asked)
    assert second.output_text == "The tool has answered."


def test_a_stored_turn_is_continued_by_its_id(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "sim-gpt+loop", "tools": [WEATHER]}
    first = client.responses.create(input="hello", **asked)
    (call,) = first.output
    assert call.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(input=[output], previous_response_id=first.id, **asked)
    assert second.output_text == "The tool has answered."
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(first.id).output == first.output
    items = client.responses.input_items.list(first.id)
    assert [item.type for item in items] == ["message"]


def test_a_stored_item_is_referred_to_by_its_id(client: openai.OpenAI) -> None:
    first = client.responses.create(model="sim-gpt", input="hello")
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    again = client.responses.create(model="sim-gpt", input=[reference, USER])
    assert again.output_text == "You said: hello"


def test_what_is_deleted_is_gone(client: openai.OpenAI) -> None:
    first = client.responses.create(model="sim-gpt", input="hello")
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="sim-gpt", input="x", previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"


def test_what_is_not_stored_cannot_be_asked_for(client: openai.OpenAI) -> None:
    first = client.responses.create(model="sim-gpt", input="hello", store=False)
    assert first.id.startswith("resp_")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_background_answer_is_fetched_later(client: openai.OpenAI) -> None:
    queued = client.responses.create(model="sim-gpt", input="hello", background=True)
    assert (queued.status, queued.output) == ("queued", [])
    done = client.responses.retrieve(queued.id)
    assert (done.status, done.output_text) == ("completed", "You said: hello")
    assert client.responses.cancel(queued.id).id == queued.id


def test_a_custom_tool_and_a_namespace(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "namespace", "name": "box", "description": "x", "tools": [WEATHER]}]
    called = client.responses.create(model="sim-gpt+tool", input="x", tools=[SHELL])
    (item,) = called.output
    assert (item.type, item.id[:4]) == ("custom_tool_call", "ctc_")
    answer = {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "done"}
    again: Any = [USER, item, answer]
    assert client.responses.create(model="sim-gpt", input=again, tools=[SHELL]).status
    (named,) = client.responses.create(model="sim-gpt+tool", input="x", tools=tools).output
    assert named.type == "function_call"
    assert (named.name, named.namespace) == ("weather", "box")


def test_structured_output_and_logprobs(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "name": "weather", "schema": schema, "strict": True}
    answer = client.responses.create(
        model="sim-gpt",
        input="x",
        text={"format": form},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )
    assert json.loads(answer.output_text) == {"city": "simulated"}
    (message,) = answer.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    assert "".join(entry.token for entry in part.logprobs or []) == answer.output_text


def test_counting_and_compaction(client: openai.OpenAI) -> None:
    assert client.responses.input_tokens.count(model="sim-gpt", input="hello").input_tokens > 0
    compacted = client.responses.compact(model="sim-gpt", input="hello")
    (item,) = compacted.output
    assert item.type == "compaction"
    kept: Any = [item, USER]
    assert client.responses.create(model="sim-gpt", input=kept).output_text == "You said: hello"


@pytest.mark.parametrize(("status", "name"), ERRORS.items())
def test_errors_are_the_clients_own(client: openai.OpenAI, status: int, name: str) -> None:
    with pytest.raises(getattr(openai, name)) as caught:
        client.responses.create(model=f"sim-gpt+status={status}", input="x")
    assert caught.value.status_code == status


def test_an_error_in_mid_stream_is_an_event(client: openai.OpenAI) -> None:
    stream = client.responses.create(model="sim-gpt+text+miderror=4", input="x", stream=True)
    *_, last = list(stream)
    assert last.type == "error"
    assert (last.code, last.sequence_number) == ("server_is_overloaded", 4)


async def test_the_asynchronous_client(simulator: SimulatorServer) -> None:
    base = f"{simulator.url}/openai/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key="sk", max_retries=0) as client:
        answer = await client.responses.create(model="sim-gpt", input="hello")
        assert answer.output_text == "You said: hello"
        async with client.responses.stream(model="sim-gpt+tools", input="x") as stream:
            async for _ in stream:
                pass
            final = await stream.get_final_response()
        assert [item.type for item in final.output] == ["message", *["function_call"] * 2]


# --- the grammar of the stream -------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_numbers_leave_no_gaps_and_items_close_as_they_were_opened(
    simulator: SimulatorServer, name: str
) -> None:
    events = events_of(simulator, f"sim-gpt+{name}", include=[ENCRYPTED])
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = {e["output_index"]: e for e in events if e["type"] == "response.output_item.added"}
    done = {e["output_index"]: e for e in events if e["type"] == "response.output_item.done"}
    assert list(added) == list(range(len(added)))
    assert set(added) == set(done)
    output = events[-1]["response"]["output"]
    assert [done[index]["item"] for index in sorted(done)] == output
    for index, item in enumerate(output):
        assert added[index]["item"]["id"] == item["id"]
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
        assert item["id"].startswith(prefix.get(item["type"], "ig") + "_")
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == added[event["output_index"]]["item"]["id"]


def test_the_events_of_a_message_come_in_order(simulator: SimulatorServer) -> None:
    events = events_of(simulator, "sim-gpt+text+tokens=2")
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_the_events_of_thought_and_call_come_in_order(simulator: SimulatorServer) -> None:
    events = events_of(simulator, "sim-gpt+thinktool", include=[ENCRYPTED])
    kinds = [event["type"].removeprefix("response.") for event in events]
    thought = [kind for kind in kinds if kind.startswith("reasoning")]
    assert thought == [
        "reasoning_summary_part.added",
        *["reasoning_summary_text.delta"] * 2,
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]
    done = next(e for e in events if e["type"] == "response.function_call_arguments.done")
    fragments = [e["delta"] for e in events if e["type"].endswith("arguments.delta")]
    assert done["arguments"] == "".join(fragments)
    assert done["name"]


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("length", "incomplete", "max_output_tokens"),
        ("filter", "incomplete", "content_filter"),
        ("refusal", "completed", None),
        ("text", "completed", None),
    ],
)
def test_the_last_event_says_how_it_ended(
    simulator: SimulatorServer, name: str, status: str, reason: str | None
) -> None:
    last = events_of(simulator, f"sim-gpt+{name}")[-1]
    assert last["type"] == f"response.{status}"
    details = last["response"]["incomplete_details"]
    assert (details or {}).get("reason") == reason
    assert last["response"]["output"][-1]["status"] == status


def test_proofs_are_shown_only_when_asked_for(simulator: SimulatorServer) -> None:
    def proof(**fields: Any) -> Any:
        output = post(simulator, "sim-gpt+thinking", **fields).json()["output"]
        return output[0].get("encrypted_content")

    assert proof() is None
    assert proof(store=False) is None
    assert proofs.is_whole(proof(include=[ENCRYPTED]), "sim-gpt")


def test_a_proof_is_final_only_when_its_item_is(simulator: SimulatorServer) -> None:
    events = events_of(simulator, "sim-gpt+thinking", include=[ENCRYPTED])
    first, last = (
        next(e["item"]["encrypted_content"] for e in events if e["type"].endswith(kind))
        for kind in ("output_item.added", "output_item.done")
    )
    assert not proofs.is_whole(first, "sim-gpt")
    assert proofs.is_whole(last, "sim-gpt")


def test_thoughts_are_summarised_only_when_asked_for(simulator: SimulatorServer) -> None:
    def summary(**reasoning: Any) -> Any:
        output = post(simulator, "sim-gpt+thinking", reasoning=reasoning).json()["output"]
        return output[0]["summary"]

    assert summary(effort="high") == []
    assert summary(effort="high", summary="auto")[0]["text"] == "First I consider the question."


def test_the_answer_repeats_the_request(simulator: SimulatorServer) -> None:
    answer = post(
        simulator,
        instructions="be kind",
        temperature=0.5,
        tools=[WEATHER],
        tool_choice="auto",
        metadata={"a": "b"},
        max_output_tokens=100,
        store=False,
    ).json()
    assert (answer["instructions"], answer["temperature"]) == ("be kind", 0.5)
    assert (answer["tools"], answer["metadata"]) == ([WEATHER], {"a": "b"})
    assert (answer["store"], answer["model"]) == (False, "sim-gpt")


# --- what the vendor refuses ---------------------------------------------------------------------


def items(*found: dict[str, Any]) -> dict[str, Any]:
    return {"input": [USER, *found]}


def call(call_id: str = "call_1", **fields: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": "weather",
        "arguments": "{}",
        **fields,
    }


def output(call_id: str = "call_1", **fields: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "sunny", **fields}


def thought(**fields: Any) -> dict[str, Any]:
    proof = proofs.make("sim-gpt", "x")
    return {"type": "reasoning", "summary": [], "encrypted_content": proof, **fields}


def part(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [fields]}]}


def tools(**fields: Any) -> dict[str, Any]:
    return {"tools": [{**WEATHER, **fields}]}


def form(**fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}}
    return {"text": {"format": {"type": "json_schema", "name": "x", "schema": schema, **fields}}}


SAID = {"role": "assistant", "content": "sunny"}
NESTED = {"type": "function", "function": {"name": "weather"}}
NAMESPACE = {"type": "namespace", "name": "box", "description": "x"}
BREAKERS: list[tuple[str, dict[str, Any]]] = [
    ("unknown_field", {"stop": ["x"]}),
    ("unknown_field", {"n": 2}),
    ("unknown_field", {"seed": 1}),
    ("unknown_field", {"presence_penalty": 1}),
    ("unknown_field", {"logit_bias": {}}),
    ("unknown_field", {"messages": []}),
    ("max_output_tokens", {"max_output_tokens": 15}),
    ("range", {"max_output_tokens": "many"}),
    ("range", {"temperature": 3}),
    ("range", {"top_p": -1}),
    ("range", {"top_logprobs": 21}),
    ("range", {"max_tool_calls": 0}),
    ("enum", {"include": ["everything"]}),
    ("enum", {"reasoning": {"effort": "enormous"}}),
    ("enum", {"reasoning": {"summary": "long"}}),
    ("unknown_field", {"reasoning": {"budget": 5}}),
    ("stream_options", {"stream_options": {"include_obfuscation": False}}),
    ("enum", {"truncation": "middle"}),
    ("enum", {"service_tier": "golden"}),
    ("cache_key", {"prompt_cache_key": "x" * 65}),
    ("metadata", {"metadata": {"k" * 65: "v"}}),
    ("two_states", {"previous_response_id": "resp_x", "conversation": "conv_x"}),
    ("background", {"background": True, "store": False}),
    ("conversation", {"conversation": "conv_x", "store": False}),
    ("previous_response", {"previous_response_id": "resp_unknown"}),
    ("type", {"input": None}),
    ("empty_input", {"input": ""}),
    ("empty_input", {"input": []}),
    ("item_type", items({"type": "thought"})),
    ("enum", {"input": [{"role": "tool", "content": "x"}]}),
    ("unknown_field", {"input": [{**USER, "cache_control": {}}]}),
    ("phase", {"input": [{**USER, "phase": "commentary"}]}),
    ("enum", items({**SAID, "phase": "middle"})),
    ("enum", part(type="text", text="x")),
    ("enum", part(type="output_text", text="x")),
    ("unknown_field", part(type="input_text", text="x", cache_control={})),
    ("type", part(type="input_image", image_url={"url": "https://example.com/x.png"})),
    ("image", part(type="input_image")),
    ("enum", part(type="input_image", image_url="https://example.com/x", detail="huge")),
    ("url", part(type="input_image", image_url="ftp://example.com/x")),
    ("media_type", part(type="input_image", image_url=f"data:image/gif;base64,{PIXEL}")),
    ("file", part(type="input_file")),
    ("file", part(type="input_file", file_id="file-1", file_url="https://example.com/x")),
    ("file", part(type="input_file", file_data="data:application/pdf;base64,JVBERg==")),
    ("enum", part(type="input_audio", input_audio={"format": "ogg", "data": ""})),
    ("enum", items({"role": "assistant", "content": [{"type": "input_text", "text": "x"}]})),
    ("orphan_result", items(output())),
    ("orphan_result", items(call(), output(), output())),
    ("orphan_result", items(call(), {**output(), "type": "custom_tool_call_output"})),
    ("missing_result", items(call())),
    ("missing_result", items(call("a"), call("b"), output("a"))),
    ("call_id", items(call("a"), call("a"), output("a"))),
    ("call_id", items(call("x" * 65), output("x" * 65))),
    ("empty_text", items(call(""), output(""))),
    ("tool_name", items(call(name="a b"), output())),
    ("type", items(call(arguments={}), output())),
    ("item_id", items(call(id="call_1"), output())),
    ("item_id", items(call(id="fc_" + "x" * 62), output())),
    ("item_id", items({**SAID, "id": "item_1"})),
    ("output", items(call(), output(output=[]))),
    ("blank_output", items(call(), output(output="  "))),
    ("type", items(call(), output(output=None))),
    ("enum", items(call(), output(output=[{"type": "input_audio"}]))),
    ("lonely_reasoning", items(thought())),
    ("lonely_reasoning", items(thought(), USER)),
    ("lonely_reasoning", items(call(), thought(), output())),
    ("encrypted_content", items(thought(encrypted_content="c2VjcmV0"), SAID)),
    (
        "encrypted_content",
        items(thought(encrypted_content=proofs.make("sim-claude", "x")), SAID),
    ),
    ("type", items({"type": "reasoning", "summary": "x"}, SAID)),
    ("nested_tool", {"tools": [NESTED]}),
    ("nested_tool", {**tools(), "tool_choice": NESTED}),
    ("tool_name", tools(name="a b")),
    ("strict", tools(strict="yes")),
    ("strict_schema", tools(strict=True)),
    ("duplicate_tool", {"tools": [WEATHER, WEATHER]}),
    ("tools", {"tools": [{**WEATHER, "name": f"t{n}"} for n in range(129)]}),
    ("enum", {"tools": [{"type": "teleport"}]}),
    ("namespace", {"tools": [{**NAMESPACE, "tools": [{**NAMESPACE, "tools": []}]}]}),
    ("tool_choice", {"tool_choice": "required"}),
    ("enum", {**tools(), "tool_choice": "sometimes"}),
    ("tool_choice", {**tools(), "tool_choice": {"type": "function", "name": "other"}}),
    (
        "tool_choice",
        {
            **tools(),
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "other"}],
            },
        },
    ),
    ("enum", {"text": {"verbosity": "loud"}}),
    ("enum", {"text": {"format": {"type": "yaml"}}}),
    ("json_word", {"text": {"format": {"type": "json_object"}}}),
    ("schema_name", form(name="a b")),
    ("type", form(schema=None)),
    ("strict_schema", form(strict=True, schema={"type": "object", "properties": {"a": {}}})),
]


@pytest.mark.parametrize(("rule", "fields"), BREAKERS)
def test_every_rule_has_a_breaker(
    simulator: SimulatorServer, rule: str, fields: dict[str, Any]
) -> None:
    answer = post(simulator, **fields)
    assert (answer.status, simulator.rules()) == (400, [rule])
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "id": "rs_unknown", "summary": []},
        {"type": "item_reference", "id": "msg_unknown"},
    ],
)
def test_what_was_not_stored_is_not_found(simulator: SimulatorServer, item: dict[str, Any]) -> None:
    answer = post(simulator, input=[USER, item, SAID])
    assert (answer.status, simulator.rules()) == (404, ["not_stored"])
    assert "not persisted" in answer.json()["error"]["message"]


def test_a_stored_call_comes_back_with_its_reasoning(simulator: SimulatorServer) -> None:
    made = post(simulator, "sim-gpt+thinktool", tools=[WEATHER]).json()["output"]
    reasoning, called = made
    done = output(called["call_id"])
    assert post(simulator, input=[USER, called, done]).status == 400
    assert simulator.rules() == ["lonely_call"]
    assert post(simulator, input=[USER, reasoning, called, done]).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        items(thought(), thought(), call(), output()),
        items(thought(), {**SAID, "id": "msg_1", "phase": "final_answer"}, USER),
        items(call("a"), call("b"), output("b"), output("a")),
        items(call(), output(output=[{"type": "input_text", "text": "sunny"}])),
        {"text": {"format": {"type": "json_object"}}, "instructions": "answer in JSON"},
        {**tools(strict=False), "tool_choice": {"type": "function", "name": "weather"}},
        {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}},
        {"max_output_tokens": 16},
    ],
)
def test_what_is_right_is_answered(simulator: SimulatorServer, fields: dict[str, Any]) -> None:
    answer = post(simulator, **fields)
    assert (answer.status, simulator.rules()) == (200, [])
