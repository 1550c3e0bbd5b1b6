"""Who says that an encoded upstream request is right: types that no one here wrote.

The simulated vendors judge rules (`upstreams.checked`); these judge names and types of fields.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

import anthropic.types
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from botocore.validate import ParamValidator
from google.genai import types as google
from openai.types.chat.completion_create_params import CompletionCreateParams
from openai.types.responses.response_create_params import ResponseCreateParams
from pydantic import TypeAdapter

from controlplane.kit.json import JSONDict
from providers.protocols.codec import UpstreamCall

_CHAT: Final[TypeAdapter[Any]] = TypeAdapter(CompletionCreateParams)
_RESPONSES: Final[TypeAdapter[Any]] = TypeAdapter(ResponseCreateParams)
_MESSAGES: Final[TypeAdapter[Any]] = TypeAdapter(anthropic.types.MessageCreateParams)


def _read(value: Any) -> Any:
    """The SDKs type arrays as iterables; pydantic checks those only when they are read."""
    if isinstance(value, dict):
        return {key: _read(item) for key, item in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    return [_read(item) for item in value]


def chat(body: JSONDict) -> None:
    _read(_CHAT.validate_python(body))


def responses(body: JSONDict) -> None:
    # The SDK's types ask for `strict`; without it the vendor's own default counts.
    tools = [
        {"strict": None, **tool} if tool["type"] == "function" else tool
        for tool in body.get("tools", ())
    ]
    _read(_RESPONSES.validate_python({**body, "tools": tools} if tools else body))


def messages(body: JSONDict) -> None:
    _read(_MESSAGES.validate_python(body))


_GOOGLE_FIELDS: Final = frozenset(
    "contents tools toolConfig systemInstruction generationConfig safetySettings cachedContent "
    "labels serviceTier".split(" ")
)


def generate(body: JSONDict) -> None:
    """google-genai's models forbid unknown fields."""
    for content in body["contents"]:
        google.Content.model_validate(content)
    for tool in body.get("tools", ()):
        google.Tool.model_validate(tool)
    if "toolConfig" in body:
        google.ToolConfig.model_validate(body["toolConfig"])
    if "systemInstruction" in body:
        google.Content.model_validate(body["systemInstruction"])
    if "generationConfig" in body:
        google.GenerationConfig.model_validate(body["generationConfig"])
    assert set(body) <= _GOOGLE_FIELDS, set(body) - _GOOGLE_FIELDS


def _code_assist(body: JSONDict) -> None:
    inner = {key: value for key, value in body["request"].items() if key != "sessionId"}
    generate(inner)
    assert set(body) <= {"project", "model", "request", "userAgent", "requestId", "requestType"}


@cache
def _operation(name: str) -> OperationModel:
    description = Loader().load_service_model("bedrock-runtime", "service-2")
    return ServiceModel(description, "bedrock-runtime").operation_model(name)


def _native(value: Any, shape: Any) -> Any:
    """botocore takes blobs as bytes; on the wire they are base64."""
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        unknown = value.keys() - shape.members.keys()
        assert not unknown, f"{shape.name} has no {unknown}"
        return {key: _native(item, shape.members[key]) for key, item in value.items()}
    if shape.type_name == "list":
        return [_native(item, shape.member) for item in value]
    return value


def _converse(call: UpstreamCall) -> None:
    shape: Any = _operation("ConverseStream" if call.stream else "Converse").input_shape
    model_id = unquote(call.path.split("/")[2])
    params = _native({"modelId": model_id, **call.body}, shape)
    report = ParamValidator().validate(params, shape)
    assert not report.has_errors(), report.generate_report()


def _of_body(check: Callable[[JSONDict], None]) -> Callable[[UpstreamCall], None]:
    return lambda call: check(call.body)


# Mistral and Kiro publish no Python types that are installed here: their simulated vendors judge.
JUDGES: Final[dict[str, Callable[[UpstreamCall], None]]] = {
    "openai-completions": _of_body(chat),
    "openai-responses": _of_body(responses),
    "azure-openai-responses": _of_body(responses),
    "openai-codex-responses": _of_body(responses),
    "anthropic-messages": _of_body(messages),
    "google-generative-ai": _of_body(generate),
    "google-vertex": _of_body(generate),
    "google-gemini-cli": _of_body(_code_assist),
    "bedrock-converse-stream": _converse,
}

# The same types judge what the tests write in a client's name.
CLIENTS: Final[dict[str, Callable[[JSONDict], None]]] = {
    "openai-completions": chat,
    "openai-responses": responses,
    "anthropic-messages": messages,
    "google-generative-ai": generate,
}
