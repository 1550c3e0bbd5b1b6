"""What differs on Azure."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import dumps, loads_dict
from providers.protocols.azure_openai_responses import CODEC
from providers.protocols.canonical import (
    Message,
    Reasoning,
    Request,
    Signature,
    SignatureDelta,
    Text,
    Thinking,
)
from providers.protocols.codec import Restore, UpstreamCall
from providers.protocols.registry import relay_for
from tests.providers.protocols.openai_completions.builders import (
    check_responses_params,
    named,
    of,
    paths,
    spec,
    texts,
)

HI = Message(role="user", parts=(Text(text="hi"),))


def model(**endpoint: str) -> Any:
    return spec("azure-openai-responses", id="gpt-x", reasoning=True, endpoint=endpoint)


def encode(**fields: Any) -> UpstreamCall:
    endpoint = fields.pop("endpoint", {})
    request = Request(
        model="asked",
        dialect="openai-responses",
        messages=fields.pop("messages", (HI,)),
        **fields,
    )
    return CODEC.encode_request(request, model(**endpoint), request_id="r")


def test_version_in_the_query_and_the_deployment_as_model() -> None:
    call = encode(endpoint={"deployment": "my-gpt", "api_version": "2024-02-01"})
    assert call.query == {"api-version": "2024-02-01"}
    assert call.body["model"] == "my-gpt"
    plain = encode()
    assert plain.query == {"api-version": "v1"}
    assert plain.body["model"] == "gpt-x"
    assert plain.body["include"] == ["reasoning.encrypted_content"]
    check_responses_params(plain.body)


def test_trap_180_no_service_tier() -> None:
    call = encode(service_tier="flex", reasoning=Reasoning(level="low"))
    assert "service_tier" not in call.body
    assert paths(call.losses) == {"service_tier"}


def test_proofs_are_azures_own() -> None:
    own = Signature(value="enc", protocol="azure-openai-responses", model="gpt-x")
    openai = Signature(value="enc", protocol="openai-responses", model="gpt-x")
    for signature, count in ((own, 1), (openai, 0)):
        turn = Message(role="assistant", parts=(Thinking(signature=signature), Text(text="a")))
        items = encode(messages=(HI, turn, HI)).body["input"]
        assert len([item for item in items if item.get("type") == "reasoning"]) == count


def test_a_late_proof_is_filled_in_and_text_may_come_before_its_part() -> None:
    bare = {"type": "reasoning", "id": "rs_1", "summary": []}
    response = {
        "id": "resp_1",
        "status": "completed",
        "output": [{**bare, "encrypted_content": "enc"}],
    }
    stream = named(
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": bare},
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x"},
        {"type": "response.completed", "response": response},
    )
    decoder = CODEC.stream_decoder(Restore(), model())
    events = decoder.feed(stream)
    assert texts(events) == "x"
    (proof,) = of(SignatureDelta, events)
    assert proof.signature.protocol == "azure-openai-responses"


def test_responses_clients_are_relayed() -> None:
    assert relay_for("openai-responses", "azure-openai-responses") is CODEC
    raw = b'{"model":"asked" ,"input":"x","service_tier":"flex","store":false, "y":1.0}'
    call, out = CODEC.relay_request(raw, loads_dict(raw), model(deployment="my-gpt"), stream=False)
    assert out == b'{"model":"my-gpt" ,"input":"x","store":false, "y":1.0}'
    assert call.query == {"api-version": "v1"}
    assert paths(call.losses) == {"service_tier"}


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (
            400,
            {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
            FaultKind.BAD_REQUEST,
        ),
        (429, {"code": "429", "message": "retry after 7 seconds"}, FaultKind.RATE_LIMIT),
    ],
)
def test_errors(status: int, error: dict[str, Any], kind: FaultKind) -> None:
    fault = CODEC.decode_error(status, {"retry-after-ms": "2500"}, dumps({"error": error}))
    assert fault.kind is kind
    assert fault.retry_after_seconds == 2.5
