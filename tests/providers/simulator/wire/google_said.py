"""What the tests of the three Google wires share: a request, a history, the SDK's answers."""

from __future__ import annotations

import copy
from typing import Any

from google.genai import types

from providers.simulator.proofs import make
from tests.providers.simulator.wire.said import SAID, TIME, WEATHER, Said

TOOLS = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather", description="The weather.", parameters_json_schema=WEATHER
        ),
        types.FunctionDeclaration(
            name="get_time", description="The time.", parameters_json_schema=TIME
        ),
    ]
)
CONFIG = types.GenerateContentConfig(
    tools=[TOOLS],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)
FINISH = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
HELLO = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
SIGNED = make("sim-gemini-3", "call:get_weather")
CALL = {"functionCall": {"id": "c1", "name": "get_weather", "args": {"city": "Bern"}}}
RESPONSE = {"functionResponse": {"id": "c1", "name": "get_weather", "response": {"output": "ok"}}}
SECOND_CALL = {"functionCall": {"id": "c2", "name": "get_time", "args": {}}}
SECOND_RESPONSE = {
    "functionResponse": {"id": "c2", "name": "get_time", "response": {"output": "12"}}
}
DECLARED = {"name": "get_weather", "description": "d", "parametersJsonSchema": WEATHER}


def history() -> dict[str, Any]:
    """Two parallel calls with their answers: right in every way, on every generation."""
    return copy.deepcopy(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "hello"}]},
                {"role": "model", "parts": [CALL | {"thoughtSignature": SIGNED}, SECOND_CALL]},
                {"role": "user", "parts": [RESPONSE, SECOND_RESPONSE]},
            ],
            "tools": [{"functionDeclarations": [DECLARED]}],
        }
    )


def heard(chunks: list[types.GenerateContentResponse]) -> Said:
    """What the SDK makes of an answer, in the words of `said`."""
    text = thoughts = reason = ""
    calls: list[tuple[str, Any]] = []
    for chunk in chunks:
        for candidate in chunk.candidates or ():
            for part in (candidate.content.parts if candidate.content else None) or ():
                if part.thought:
                    thoughts += part.text or ""
                else:
                    text += part.text or ""
                if part.function_call:
                    calls.append((part.function_call.name or "", part.function_call.args))
            if candidate.finish_reason:
                reason = candidate.finish_reason.value
    return Said(text, thoughts, tuple(calls), reason)


def expected(scenario: str) -> Said:
    said = SAID[scenario]
    if scenario == "badargs":
        return Said(reason="MALFORMED_FUNCTION_CALL")
    if scenario == "refusal":
        return Said(reason="")
    return Said(said.text, said.thoughts, said.calls, FINISH.get(said.reason, "STOP"))
