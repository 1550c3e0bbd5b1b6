"""Google's own SDK as a judge, and small builders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import types

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Message, ModelSpec, Request, Text
from providers.protocols.codec import ClientCall, Reply
from providers.protocols.google_generative_ai import CODEC
from providers.protocols.quirks import Quirks


@pytest.fixture
def check_body() -> Callable[[JSONDict], None]:
    """Raises when the SDK's own models, which forbid unknown fields, do not allow this body."""

    def check(body: JSONDict) -> None:
        for content in body["contents"]:
            types.Content.model_validate(content)
        for tool in body.get("tools", ()):
            types.Tool.model_validate(tool)
        if "toolConfig" in body:
            types.ToolConfig.model_validate(body["toolConfig"])
        if "systemInstruction" in body:
            types.Content.model_validate(body["systemInstruction"])
        if "generationConfig" in body:
            types.GenerationConfig.model_validate(body["generationConfig"])
        known = {
            "contents", "tools", "toolConfig", "systemInstruction", "generationConfig",
            "safetySettings", "cachedContent", "labels", "serviceTier",
        }  # fmt: skip
        assert set(body) <= known

    return check


@pytest.fixture
def make_model() -> Callable[..., ModelSpec]:
    def make(
        *,
        name: str = "gemini-x",
        levels: dict[str, str | None] | None = None,
        reasoning: bool = True,
        endpoint: dict[str, str] | None = None,
        protocol: str = "google-generative-ai",
        **quirks: Any,
    ) -> ModelSpec:
        return ModelSpec(
            id=name,
            protocol=protocol,
            reasoning=reasoning,
            levels=levels or {},
            endpoint=endpoint or {},
            quirks=Quirks(**quirks),
        )

    return make


@pytest.fixture
def make_request() -> Callable[..., Request]:
    def make(*messages: Message, **fields: Any) -> Request:
        turns = messages or (Message(role="user", parts=(Text(text="hi"),)),)
        return Request(
            model="alias", dialect=fields.pop("dialect", "openai-completions"), messages=turns,
            **fields,
        )  # fmt: skip

    return make


@pytest.fixture
def reply(make_request: Callable[..., Request]) -> Reply:
    return Reply(request=make_request(dialect="google-generative-ai"), id="r1", created=1)


@pytest.fixture
def decode() -> Callable[[JSONDict], Request]:
    def run(body: JSONDict) -> Request:
        return CODEC.decode_request(body, ClientCall(model="alias", stream=False))

    return run


@pytest.fixture
def sdk() -> Callable[[Callable[[httpx.Request], httpx.Response]], genai.Client]:
    """Google's client over a transport of ours."""

    def make(handler: Callable[[httpx.Request], httpx.Response]) -> genai.Client:
        return genai.Client(
            api_key="test-key",
            http_options=types.HttpOptions(
                httpx_client=httpx.Client(transport=httpx.MockTransport(handler))
            ),
        )

    return make
