"""The simulated Kiro: our codec as the client, frames read by botocore, and what it refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from botocore.eventstream import EventStreamBuffer

from providers.protocols import kiro_generate_assistant
from providers.protocols.canonical import Message, Reasoning, Text, ToolCall, ToolResult
from providers.simulator.logins.accounts import ACCOUNTS
from providers.simulator.logins.kiro import profile_arn
from providers.simulator.logins.state import Family, Token, logins_of
from providers.simulator.proofs import make
from providers.simulator.scenarios import PIXEL
from tests.providers.simulator.wire.said import NAMES, SAID, WEATHER, Said, model
from tests.providers.simulator.wire.through_codec import TOOLS, heard, hello, play, spec
from tests.simulator_server import SimulatorServer

BEARER = {"authorization": "Bearer token"}


def user(content: str = "hello", **fields: Any) -> dict[str, Any]:
    message = {"content": content, "modelId": "sim-claude", "origin": "AI_EDITOR", **fields}
    return {"userInputMessage": message}


def assistant(content: str = "Hi.", **fields: Any) -> dict[str, Any]:
    return {"assistantResponseMessage": {"content": content, **fields}}


def state(
    current: dict[str, Any] | None = None, history: list[Any] | None = None, **fields: Any
) -> dict[str, Any]:
    return {
        "conversationState": {
            "chatTriggerType": "MANUAL",
            "conversationId": "c-1",
            "currentMessage": current or user(),
            "history": history or [],
            **fields,
        }
    }


def send(simulator: SimulatorServer, body: Any) -> httpx.Response:
    return httpx.post(f"{simulator.url}/kiro/generateAssistantResponse", json=body, headers=BEARER)


def frames(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """Read by botocore, which checks the framing and both checksums."""
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    buffer = EventStreamBuffer()
    buffer.add_data(answer.content)
    return [
        (
            message.headers.get(":event-type") or message.headers[":exception-type"],
            json.loads(message.payload),
        )
        for message in buffer
    ]


def expected(scenario: str) -> Said:
    said = SAID[scenario]
    match scenario:
        case "badargs":
            # What looks cut off was cut off: no call is shown.
            return Said(reason="length")
        case "empty":
            return Said(reason="")
        case "image":
            return Said("Here it is: [a picture of type image/png]")
        case _:
            return said


@pytest.mark.parametrize("scenario", [name for name in NAMES if name != "empty"])
def test_our_codec_reads_every_scenario(simulator: SimulatorServer, scenario: str) -> None:
    codec = kiro_generate_assistant.CODEC
    target = spec(codec, model("sim-claude", scenario))
    events = play(f"{simulator.url}/kiro", codec, hello(tools=TOOLS), target)
    assert heard(events) == expected(scenario)
    assert simulator.rules() == []


def test_an_answer_without_content(simulator: SimulatorServer) -> None:
    kinds = [kind for kind, _ in frames(send(simulator, state(_playing("empty"))))]
    assert "assistantResponseEvent" not in kinds
    assert kinds[-1] == "meteringEvent"


def test_an_agent_turn_through_our_codec(simulator: SimulatorServer) -> None:
    codec = kiro_generate_assistant.CODEC
    call = ToolCall(id="tooluse_1", name="get_weather", arguments='{"city": "Bern"}')
    request = hello(
        Message(role="user", parts=(Text(text="hello"),)),
        Message(role="assistant", parts=(call,)),
        Message(role="tool", parts=(ToolResult(call_id=call.id, content=(Text(text="ok"),)),)),
        tools=TOOLS,
    )
    target = spec(codec, "sim-claude+loop")
    assert heard(play(f"{simulator.url}/kiro", codec, request, target)).text == (
        "The tool has answered."
    )
    assert simulator.rules() == []


def test_thinking_is_asked_for_with_tags(simulator: SimulatorServer) -> None:
    codec = kiro_generate_assistant.CODEC
    request = hello(reasoning=Reasoning(level="high"))
    answer = heard(play(f"{simulator.url}/kiro", codec, request, spec(codec, "sim-claude")))
    assert answer.thoughts == "First I consider the question."
    plain = heard(play(f"{simulator.url}/kiro", codec, hello(), spec(codec, "sim-claude")))
    assert plain == Said("You said: hello")


def _playing(scenario: str) -> dict[str, Any]:
    return user(modelId=model("sim-claude", scenario))


def test_the_events_of_an_answer(simulator: SimulatorServer) -> None:
    events = frames(send(simulator, state(_playing("thinktool"))))
    kinds = [kind for kind, _ in events]
    assert kinds[0] == "messageMetadataEvent"
    assert kinds[-3:] == ["contextUsageEvent", "metadataEvent", "meteringEvent"]
    said = [payload["content"] for kind, payload in events if kind == "assistantResponseEvent"]
    assert "".join(said) == "<thinking>A tool is needed.</thinking>\n\n"
    # The tags are cut between events.
    assert "<thinking>" not in said
    calls = [payload for kind, payload in events if kind == "toolUseEvent"]
    assert {call["toolUseId"] for call in calls} == {calls[0]["toolUseId"]}
    assert calls[0]["toolUseId"].startswith("tooluse_")
    assert "".join(call.get("input", "") for call in calls) == '{"city":"simulated"}'
    assert [call.get("stop", False) for call in calls] == [False] * (len(calls) - 1) + [True]
    figures = dict(events)["metadataEvent"]["tokenUsage"]
    assert figures["totalTokens"] == figures["uncachedInputTokens"] + figures["outputTokens"]
    metered = dict(events)["meteringEvent"]
    assert (metered["unit"], metered["unitPlural"]) == ("credit", "credits")


def test_hidden_thoughts_links_and_stops(simulator: SimulatorServer) -> None:
    def played(scenario: str) -> dict[str, Any]:
        return dict(frames(send(simulator, state(_playing(scenario)))))

    assert played("redacted")["reasoningContentEvent"] == {
        "redactedContent": make("sim-claude", "redacted")
    }
    links = played("citation")["supplementaryWebLinksEvent"]["supplementaryWebLinks"]
    assert links == [{"url": "https://example.com/source", "title": "Source"}]
    assert played("length")["messageStopEvent"] == {"stopReason": "MAX_TOKENS"}
    assert "messageStopEvent" not in played("text")


def test_listing(simulator: SimulatorServer) -> None:
    url = f"{simulator.url}/kiro/ListAvailableModels"
    models = httpx.get(f"{url}?origin=AI_EDITOR", headers=BEARER).json()["models"]
    assert models[1]["modelId"] == "sim-claude"
    assert models[1]["tokenLimits"]["maxInputTokens"] == 200_000
    assert httpx.get(url, headers=BEARER).status_code == 400
    assert simulator.rules("kiro") == ["origin"]


# --- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, "ValidationException", None),
        (402, "ServiceQuotaExceededException", "MONTHLY_REQUEST_COUNT"),
        (403, "AccessDeniedException", None),
        (429, "ThrottlingException", None),
        (500, "InternalServerException", None),
        (503, "ServiceUnavailableException", "INSUFFICIENT_MODEL_CAPACITY"),
    ],
)
def test_statuses_in_the_vendors_shape(
    simulator: SimulatorServer, status: int, kind: str, reason: str | None
) -> None:
    answer = send(simulator, state(_playing(f"status={status}")))
    assert answer.status_code == status
    assert answer.json() == {
        "__type": kind,
        "message": f"Simulated status {status}.",
        "reason": reason,
    }
    assert answer.headers["x-amzn-errortype"].split(":")[0] == kind
    assert simulator.rules() == []


def test_an_expired_login_is_a_403(simulator: SimulatorServer) -> None:
    url = f"{simulator.url}/kiro/generateAssistantResponse"
    answer = httpx.post(url, json=state(), headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 403
    assert answer.json()["message"] == "The bearer token included in the request is invalid."


LOGINS = [
    ("ada", "social", "own", 200, None),
    ("ada", "builder-id", "", 200, None),
    ("ada", "builder-id", "own", 403, None),
    ("ada", "idc", "", 400, None),
    ("ada", "social", "arn:aws:codewhisperer:us-east-1:1:profile/OTHER", 403, None),
    ("finn", "social", "own", 403, "TEMPORARILY_SUSPENDED"),
    ("dan", "social", "own", 403, None),
    ("eve", "social", "own", 402, "MONTHLY_REQUEST_COUNT"),
]


@pytest.mark.parametrize(("name", "method", "profile", "status", "reason"), LOGINS)
def test_what_a_login_may_do(
    simulator: SimulatorServer,
    name: str,
    method: str,
    profile: str,
    status: int,
    reason: str | None,
) -> None:
    account = ACCOUNTS[name]
    family = Family(
        vendor="kiro",
        account=account,
        client_id="c",
        scope="",
        begun_at=simulator.world.now(),
        facts={"method": method},
    )
    logins_of(simulator.world).tokens["token"] = Token(family, "access")
    arn = profile_arn(account) if profile == "own" else profile
    answer = send(simulator, state() | ({"profileArn": arn} if arn else {}))
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["reason"] == reason


def test_too_long_a_conversation(simulator: SimulatorServer) -> None:
    answer = send(simulator, state(user("x" * 800_001)))
    assert answer.status_code == 400
    assert answer.json()["reason"] == "CONTENT_LENGTH_EXCEEDS_THRESHOLD"
    assert simulator.rules() == []


def test_an_exception_in_mid_stream(simulator: SimulatorServer) -> None:
    events = frames(send(simulator, state(_playing("text+miderror=3"))))
    assert events[-1][0] == "serviceUnavailableException"
    assert events[-1][1]["message"]


# --- what is refused ---------------------------------------------------------------------

SPECIFICATION = {
    "name": "get_weather",
    "description": "The weather.",
    "inputSchema": {"json": WEATHER},
}
CALL = {"toolUseId": "tooluse_1", "name": "get_weather", "input": {"city": "Bern"}}
RESULT = {"toolUseId": "tooluse_1", "status": "success", "content": [{"text": "ok"}]}
IMAGE = {"format": "png", "source": {"bytes": PIXEL}}


def with_calls() -> dict[str, Any]:
    """A call, its result in the current message, and the tools beside it."""
    context = {"tools": [{"toolSpecification": SPECIFICATION}], "toolResults": [RESULT]}
    return copy.deepcopy(
        state(
            user("Tool results provided.", userInputMessageContext=context),
            [user(), assistant(toolUses=[CALL])],
        )
    )


def _changed(change: Callable[[Any, Any, Any], object]) -> dict[str, Any]:
    """`change` gets the history, the current message and its context."""
    body = with_calls()
    inner = body["conversationState"]
    current = inner["currentMessage"]["userInputMessage"]
    change(inner["history"], current, current["userInputMessageContext"])
    return body


def _tool(**fields: Any) -> dict[str, Any]:
    entry = {"toolSpecification": SPECIFICATION | fields}
    return state(user(userInputMessageContext={"tools": [entry]}))


def _call(**fields: Any) -> dict[str, Any]:
    return _changed(
        lambda history, *_: history[1]["assistantResponseMessage"]["toolUses"][0].update(fields)
    )


def _result(**fields: Any) -> dict[str, Any]:
    return _changed(lambda _, __, context: context["toolResults"][0].update(fields))


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("type", {}),
    ("unknown_field", state() | {"model": "x"}),
    ("unknown_field", state(temperature=1)),
    ("unknown_field", state(user(stop=["x"]))),
    ("trigger", state(chatTriggerType="AUTOMATIC")),
    ("conversation_id", state(conversationId="")),
    ("current_message", state(assistant(), [user(), assistant()])),
    ("union", state({**user(), **assistant()})),
    ("empty_content", state(user(" "))),
    ("empty_content", state(history=[user(""), assistant()])),
    ("empty_content", state(history=[user(), assistant("")])),
    ("alternation", state(history=[assistant()])),
    ("alternation", state(history=[user()])),
    ("alternation", state(history=[user(), user()])),
    ("alternation", state(history=[user(), assistant(), assistant()])),
    ("origin", state(user(origin="BROWSER"))),
    ("image_format", state(user(images=[IMAGE | {"format": "bmp"}]))),
    ("image_source", state(user(images=[IMAGE | {"source": {"url": "https://x.test"}}]))),
    ("media_type", state(user(images=[IMAGE | {"format": "jpeg"}]))),
    ("tool_name", _tool(name="a b")),
    ("tool_name", _tool(name="x" * 65)),
    ("tool_description", _tool(description="")),
    ("tool_description", _tool(description="é" * 5121)),
    ("input_schema", _tool(inputSchema=WEATHER)),
    (
        "duplicate_tool",
        _changed(lambda _, __, context: context["tools"].append(context["tools"][0])),
    ),
    ("tools_missing", _changed(lambda _, __, context: context.pop("tools"))),
    (
        "tools_in_history",
        _changed(
            lambda history, _, context: history[0]["userInputMessage"].update(
                userInputMessageContext={"tools": context["tools"]}
            )
        ),
    ),
    ("tool_results", _changed(lambda _, __, context: context.pop("toolResults"))),
    ("tool_results", _result(toolUseId="tooluse_9")),
    ("tool_results", state(user(userInputMessageContext={"toolResults": [RESULT]}))),
    ("result_status", _result(status="failed")),
    ("empty_content", _result(content=[])),
    ("empty_content", _result(content=[{"text": ""}])),
    ("result_content", _result(content=[{"image": IMAGE}])),
    ("call_input", _call(input="{}")),
    ("call_id", _call(toolUseId="has space")),
    ("tool_name", _call(name="a.b")),
    ("range", state() | {"inferenceConfig": {"maxTokens": 64_000}}),
    ("unknown_field", state() | {"inferenceConfig": {"topK": 5}}),
    ("profile", state() | {"profileArn": "mine"}),
]


@pytest.mark.parametrize(
    ("rule", "body"), REFUSED, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(REFUSED)]
)
def test_refuses(simulator: SimulatorServer, rule: str, body: dict[str, Any]) -> None:
    answer = send(simulator, body)
    assert answer.status_code == 400, answer.content
    assert answer.json()["__type"] == "ValidationException"
    assert simulator.rules("kiro") == [rule]


def test_accepts_calls_images_and_a_profile(simulator: SimulatorServer) -> None:
    body = _changed(lambda _, current, __: current.update(images=[IMAGE]))
    body["profileArn"] = "arn:aws:codewhisperer:us-east-1:000000000000:profile/SIM"
    body["inferenceConfig"] = {"maxTokens": 32_000, "temperature": 0.5}
    assert send(simulator, body).status_code == 200
    assert simulator.rules() == []
