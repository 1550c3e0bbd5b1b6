"""botocore's model of bedrock-runtime as the judge."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from providers.protocols.canonical import ModelSpec
from providers.protocols.codec import UpstreamCall
from providers.protocols.quirks import Quirks


@cache
def _operation(name: str) -> OperationModel:
    description = Loader().load_service_model("bedrock-runtime", "service-2")
    return ServiceModel(description, "bedrock-runtime").operation_model(name)


@pytest.fixture
def operation() -> Callable[[str], OperationModel]:
    return _operation


def _with_bytes(value: Any, shape: Any) -> Any:
    """botocore takes blobs as bytes; on the wire they are base64."""
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        unknown = value.keys() - shape.members.keys()
        assert not unknown, f"{shape.name} has no {unknown}"
        return {key: _with_bytes(item, shape.members[key]) for key, item in value.items()}
    if shape.type_name == "list":
        return [_with_bytes(item, shape.member) for item in value]
    return value


@pytest.fixture
def check_call() -> Callable[[UpstreamCall], None]:
    """Raises unless botocore would send exactly this path and body."""

    def check(call: UpstreamCall) -> None:
        model = _operation("ConverseStream" if call.stream else "Converse")
        _, _, model_id, action = call.path.split("/")
        params = {"modelId": unquote(model_id), **call.body}
        shape: Any = model.input_shape
        native = _with_bytes(params, shape)
        report = ParamValidator().validate(native, shape)
        assert not report.has_errors(), report.generate_report()
        sent = create_serializer("rest-json").serialize_to_request(native, model)
        assert sent["url_path"] == call.path
        assert action in ("converse", "converse-stream")

    return check


@pytest.fixture
def spec() -> Callable[..., ModelSpec]:
    def build(*, quirks: dict[str, Any] | None = None, **fields: Any) -> ModelSpec:
        values = {
            "id": "us.anthropic.claude-x-v1:0",
            "protocol": "bedrock-converse-stream",
            "reasoning": True,
            "max_output_tokens": 32000,
            **fields,
        }
        return ModelSpec(quirks=Quirks(**{"is_claude": True, **(quirks or {})}), **values)

    return build
