"""The official SDK as a judge, and small builders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message, MessageCreateParams
from pydantic import TypeAdapter

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import ModelSpec
from providers.protocols.quirks import Quirks

_PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)


def _exhaust(value: Any) -> Any:
    """The SDK types arrays as iterables, and pydantic checks those only when they are read."""
    if isinstance(value, dict):
        return {key: _exhaust(item) for key, item in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    return [_exhaust(item) for item in value]


@pytest.fixture
def check_params() -> Callable[[JSONDict], Any]:
    """Raises when the SDK's own types do not allow this request body."""

    def check(body: JSONDict) -> Any:
        return _exhaust(_PARAMS.validate_python(body))

    return check


@pytest.fixture
def spec() -> Callable[..., ModelSpec]:
    def build(*, quirks: dict[str, Any] | None = None, **fields: Any) -> ModelSpec:
        values = {
            "id": "claude-test",
            "protocol": "anthropic-messages",
            "reasoning": True,
            "max_output_tokens": 32000,
            **fields,
        }
        return ModelSpec(quirks=Quirks(**(quirks or {})), **values)

    return build


@pytest.fixture
def sdk_stream() -> Callable[[bytes], Message]:
    """What the SDK's own stream parser makes of these bytes."""

    def parse(data: bytes) -> Message:
        def answer(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

        with (
            httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
            anthropic.Anthropic(
                api_key="test", base_url="http://upstream.test", http_client=http, max_retries=0
            ) as client,
            client.messages.stream(
                model="m", max_tokens=10, messages=[{"role": "user", "content": "x"}]
            ) as stream,
        ):
            return stream.get_final_message()

    return parse
