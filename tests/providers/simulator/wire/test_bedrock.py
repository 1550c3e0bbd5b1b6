"""The simulated Bedrock, judged by botocore: frames, checksums, signatures; what it refuses."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import quote

import botocore.session
import httpx
import pytest
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError

from providers.protocols import bedrock_converse_stream
from providers.protocols.quirks import Quirks
from providers.simulator.access_keys import ACCESS_KEY, SECRET_KEY
from providers.simulator.proofs import make
from providers.simulator.scenarios import PIXEL
from tests.providers.simulator.wire import through_codec
from tests.providers.simulator.wire.bedrock_said import CONVERSATION, TOOL_CONFIG
from tests.providers.simulator.wire.said import NAMES, SAID, WEATHER, Said, model
from tests.simulator_server import SimulatorServer, serve

REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "guardrail_intervened",
    "refusal": "content_filtered",
}


class ClientFor(Protocol):
    """Makes botocore clients; the fixture closes them."""

    def __call__(
        self,
        url: str,
        *,
        service: str = "bedrock-runtime",
        key: str = ACCESS_KEY,
        secret: str = SECRET_KEY,
        token: str | None = None,
    ) -> Any: ...


@pytest.fixture(scope="module")
def session() -> botocore.session.Session:
    """One for all: reading the service's model is what takes time."""
    return botocore.session.Session()


@pytest.fixture
def client_for(session: botocore.session.Session) -> Iterator[ClientFor]:
    with contextlib.ExitStack() as opened:

        def make_client(
            url: str,
            *,
            service: str = "bedrock-runtime",
            key: str = ACCESS_KEY,
            secret: str = SECRET_KEY,
            token: str | None = None,
        ) -> Any:
            made = session.create_client(
                service,
                region_name="us-east-1",
                endpoint_url=f"{url}/bedrock",
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                aws_session_token=token,
                config=Config(retries={"total_max_attempts": 1}, proxies={}),
            )
            opened.callback(made.close)
            return made

        yield make_client


@pytest.fixture
def client(simulator: SimulatorServer, client_for: ClientFor) -> Any:
    return client_for(simulator.url)


def heard_whole(answer: dict[str, Any]) -> Said:
    text = thoughts = ""
    calls = []
    for block in answer["output"]["message"]["content"]:
        text += block.get("text", "")
        thoughts += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
        for cited in block.get("citationsContent", {}).get("content", ()):
            text += cited["text"]
        if "toolUse" in block:
            calls.append((block["toolUse"]["name"], block["toolUse"]["input"]))
    return Said(text, thoughts, tuple(calls), answer["stopReason"])


def heard_stream(events: list[dict[str, Any]]) -> Said:
    text = thoughts = reason = ""
    names: dict[int, str] = {}
    inputs: dict[int, str] = {}
    for event in events:
        if "contentBlockStart" in event:
            started = event["contentBlockStart"]
            if "toolUse" in started["start"]:
                index = started["contentBlockIndex"]
                names[index] = started["start"]["toolUse"]["name"]
                inputs[index] = ""
        elif "contentBlockDelta" in event:
            index = event["contentBlockDelta"]["contentBlockIndex"]
            delta = event["contentBlockDelta"]["delta"]
            text += delta.get("text", "")
            thoughts += delta.get("reasoningContent", {}).get("text", "")
            if "toolUse" in delta:
                inputs[index] += delta["toolUse"]["input"]
        elif "messageStop" in event:
            reason = event["messageStop"]["stopReason"]
    calls = tuple((name, json.loads(inputs[index] or "{}")) for index, name in names.items())
    return Said(text, thoughts, calls, reason)


def expected(scenario: str) -> Said:
    said = SAID[scenario]
    return Said(said.text, said.thoughts, said.calls, REASONS.get(said.reason, said.reason))


@pytest.mark.parametrize("scenario", [name for name in NAMES if name != "badargs"])
def test_botocore_reads_every_scenario(
    client: Any, simulator: SimulatorServer, scenario: str
) -> None:
    asked = {
        "modelId": model("sim-claude", scenario),
        "messages": CONVERSATION,
        "toolConfig": TOOL_CONFIG,
    }
    whole = client.converse(**asked)
    assert heard_whole(whole) == expected(scenario)
    events = list(client.converse_stream(**asked)["stream"])
    assert heard_stream(events) == expected(scenario)
    assert simulator.rules() == []
    # The figures come last, and are those of the whole answer.
    assert "metadata" in events[-1]
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    assert whole["ResponseMetadata"]["RequestId"]


def test_half_an_argument_is_a_malformed_call(client: Any) -> None:
    asked = {"modelId": "sim-claude+badargs", "messages": CONVERSATION}
    assert heard_whole(client.converse(**asked)) == Said(reason="malformed_tool_use")
    events = list(client.converse_stream(**asked)["stream"])
    fragments = [
        event["contentBlockDelta"]["delta"]["toolUse"]["input"]
        for event in events
        if "contentBlockDelta" in event
    ]
    assert "".join(fragments) == '{"city": "Ber'
    assert {"messageStop": {"stopReason": "malformed_tool_use"}} in events


def test_thoughts_pictures_sources_and_caches(client: Any) -> None:
    def blocks(scenario: str) -> Any:
        answer = client.converse(modelId=f"sim-claude+{scenario}", messages=CONVERSATION)
        return answer["output"]["message"]["content"]

    proof = make("sim-claude", "First I consider the question.")
    assert blocks("thinking")[0]["reasoningContent"]["reasoningText"]["signature"] == proof
    redacted = blocks("redacted")[0]["reasoningContent"]["redactedContent"]
    assert redacted == base64.b64decode(make("sim-claude", "redacted"))
    assert blocks("image")[1]["image"] == {
        "format": "png",
        "source": {"bytes": base64.b64decode(PIXEL)},
    }
    cited = blocks("citation")[0]["citationsContent"]["citations"][0]
    assert cited["location"]["web"] == {
        "url": "https://example.com/source",
        "domain": "example.com",
    }
    cached = client.converse(
        modelId="sim-claude+cached+read=5+write=8+write1h=3", messages=CONVERSATION
    )["usage"]
    assert (cached["cacheReadInputTokens"], cached["cacheWriteInputTokens"]) == (5, 8)
    assert cached["cacheDetails"] == [
        {"ttl": "5m", "inputTokens": 5},
        {"ttl": "1h", "inputTokens": 3},
    ]
    total = cached["inputTokens"] + 5 + 8 + cached["outputTokens"]
    assert cached["totalTokens"] == total


def test_streamed_pictures_and_proofs(client: Any) -> None:
    def deltas(name: str) -> list[Any]:
        stream = client.converse_stream(modelId=name, messages=CONVERSATION)["stream"]
        return [
            event["contentBlockDelta"]["delta"] for event in stream if "contentBlockDelta" in event
        ]

    picture = {"image": {"source": {"bytes": base64.b64decode(PIXEL)}}}
    assert picture in deltas("sim-claude+image")
    signed = {"reasoningContent": {"signature": make("sim-claude", "A tool is needed.")}}
    assert signed in deltas("sim-claude+thinktool")
    # Other models do not sign.
    assert not any(
        "signature" in delta.get("reasoningContent", {}) for delta in deltas("sim-nova+thinking")
    )


def test_an_agent_turn(client: Any, simulator: SimulatorServer) -> None:
    asked: dict[str, Any] = {
        "modelId": "sim-claude+loop",
        "messages": copy.deepcopy(CONVERSATION),
        "toolConfig": TOOL_CONFIG,
    }
    message = client.converse(**asked)["output"]["message"]
    call = message["content"][0]["toolUse"]
    assert call["toolUseId"].startswith("tooluse_")
    result = {"toolUseId": call["toolUseId"], "content": [{"text": "sunny"}]}
    asked["messages"] += [message, {"role": "user", "content": [{"toolResult": result}]}]
    assert heard_whole(client.converse(**asked)).text == "The tool has answered."
    assert simulator.rules() == []


def test_forced_tools_schemas_images_and_stops(client: Any, simulator: SimulatorServer) -> None:
    forced = TOOL_CONFIG | {"toolChoice": {"tool": {"name": "get_time"}}}
    answer = client.converse(modelId="sim-claude", messages=CONVERSATION, toolConfig=forced)
    assert heard_whole(answer).calls[0][0] == "get_time"
    schema = {"jsonSchema": {"name": "w", "schema": json.dumps(WEATHER)}}
    answer = client.converse(
        modelId="sim-claude",
        messages=CONVERSATION,
        outputConfig={"textFormat": {"type": "json_schema", "structure": schema}},
    )
    assert json.loads(heard_whole(answer).text) == {"city": "simulated"}
    image = {"image": {"format": "png", "source": {"bytes": base64.b64decode(PIXEL)}}}
    document = {"document": {"format": "txt", "name": "my notes", "source": {"bytes": b"x"}}}
    answer = client.converse(
        modelId="sim-claude",
        messages=[{"role": "user", "content": [{"text": "look"}, image, document]}],
    )
    assert heard_whole(answer).text.startswith("You said: look [image image/png, ")
    answer = client.converse(
        modelId="sim-claude+text",
        messages=CONVERSATION,
        inferenceConfig={"stopSequences": ["answer"], "maxTokens": 50},
        additionalModelResponseFieldPaths=["/stop_sequence"],
    )
    assert answer["stopReason"] == "stop_sequence"
    assert answer["additionalModelResponseFields"] == {"stop_sequence": "answer"}
    assert simulator.rules() == []


def test_listings(simulator: SimulatorServer, client_for: ClientFor) -> None:
    client = client_for(simulator.url, service="bedrock")
    models = client.list_foundation_models(byOutputModality="TEXT")["modelSummaries"]
    assert models[0]["modelId"] == "sim-claude"
    assert client.list_foundation_models(byOutputModality="IMAGE")["modelSummaries"] == []
    details = client.get_foundation_model(modelIdentifier="sim-nova")["modelDetails"]
    assert details["responseStreamingSupported"] is True
    profiles = client.list_inference_profiles()["inferenceProfileSummaries"]
    assert profiles[0]["inferenceProfileId"] == "us.sim-claude"
    assert simulator.rules() == []


def test_an_arn_is_one_path_segment(client: Any, simulator: SimulatorServer) -> None:
    arn = "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.sim-claude"
    assert heard_whole(client.converse(modelId=arn, messages=CONVERSATION)).text
    raw = httpx.post(
        f"{simulator.url}/bedrock/model/{arn}/converse", json={"messages": CONVERSATION}
    )
    assert raw.status_code == 404


# --- signatures --------------------------------------------------------------------------


def _refusal(client: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        client.converse(modelId="sim-claude", messages=CONVERSATION)
    return caught.value


def test_signatures_are_verified(simulator: SimulatorServer, client_for: ClientFor) -> None:
    simulator.control("keys", {"key": "AKIAOTHER00000000001", "secret": "other secret"})
    good = client_for(simulator.url, key="AKIAOTHER00000000001", secret="other secret", token="t")
    assert good.converse(modelId="sim-claude", messages=CONVERSATION)["stopReason"] == "end_turn"
    wrong = _refusal(client_for(simulator.url, secret="not it"))
    assert wrong.response["Error"]["Code"] == "InvalidSignatureException"
    assert wrong.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    unknown = _refusal(client_for(simulator.url, key="AKIAUNKNOWN000000001"))
    assert unknown.response["Error"]["Code"] == "UnrecognizedClientException"
    expired = _refusal(client_for(simulator.url, token="expired-token"))
    assert expired.response["Error"]["Code"] == "ExpiredTokenException"
    assert simulator.rules("bedrock") == ["signature"]


def test_signatures_cover_the_prefix_of_a_mount(client_for: ClientFor) -> None:
    with serve(prefix="/simulator") as mounted:
        client = client_for(mounted.url)
        assert heard_whole(client.converse(modelId="sim-claude+text", messages=CONVERSATION)).text
        stream = client.converse_stream(modelId="sim:claude", messages=CONVERSATION)["stream"]
        assert heard_stream(list(stream)).text == "You said: hello"


def signed(url: str, body: bytes, change: Callable[[dict[str, str]], object]) -> httpx.Response:
    """A request signed by botocore, changed on its way."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("POST", url, data=body, headers={"content-type": "application/json"})
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, "token"), "bedrock", "us-east-1").add_auth(
        request
    )
    headers = dict(request.headers)
    change(headers)
    return httpx.post(url, content=body, headers=headers)


CHANGES: list[tuple[str, str, Callable[[dict[str, str]], object]]] = [
    (
        "signature",
        "InvalidSignatureException",
        lambda headers: headers.update({"X-Amz-Security-Token": "other"}),
    ),
    (
        "signature",
        "InvalidSignatureException",
        lambda headers: headers.update({"content-type": "text/plain"}),
    ),
    (
        "signature_service",
        "InvalidSignatureException",
        lambda headers: headers.update(
            Authorization=headers["Authorization"].replace("/bedrock/", "/s3/")
        ),
    ),
    (
        "signature_date",
        "InvalidSignatureException",
        lambda headers: headers.update({"X-Amz-Date": "yesterday"}),
    ),
    (
        "signature_date",
        "InvalidSignatureException",
        lambda headers: headers.update({"X-Amz-Date": "20200101T000000Z"}),
    ),
    (
        "signed_headers",
        "InvalidSignatureException",
        lambda headers: headers.update(
            Authorization=headers["Authorization"].replace(";x-amz-security-token", "")
        ),
    ),
    (
        "payload_hash",
        "InvalidSignatureException",
        lambda headers: headers.update({"X-Amz-Content-SHA256": "0" * 64}),
    ),
    (
        "signature_form",
        "IncompleteSignatureException",
        lambda headers: headers.update(Authorization="AWS4-HMAC-SHA256 Signature=1"),
    ),
]


@pytest.mark.parametrize(("rule", "code", "change"), CHANGES)
def test_a_changed_request_fails_its_signature(
    simulator: SimulatorServer,
    rule: str,
    code: str,
    change: Callable[[dict[str, str]], object],
) -> None:
    url = f"{simulator.url}/bedrock/model/{quote('sim-claude+text', safe='')}/converse"
    body = json.dumps({"messages": CONVERSATION}).encode()
    assert signed(url, body, lambda _: None).status_code == 200
    answer = signed(url, body, change)
    assert answer.status_code == 403
    assert answer.headers["x-amzn-errortype"].split(":")[0] == code
    assert simulator.rules("bedrock") == [rule]


def test_a_bearer_key_works_too(simulator: SimulatorServer) -> None:
    url = f"{simulator.url}/bedrock/model/sim-claude/converse"
    body = {"messages": CONVERSATION}
    good = httpx.post(url, json=body, headers={"authorization": "Bearer bedrock-api-key"})
    assert good.status_code == 200
    wrong = httpx.post(url, json=body, headers={"authorization": "Bearer wrong"})
    assert wrong.status_code == 403
    assert wrong.headers["x-amzn-errortype"].startswith("AccessDeniedException:")
    missing = httpx.post(url, json=body)
    assert missing.headers["x-amzn-errortype"].startswith("MissingAuthenticationToken")


# --- errors ------------------------------------------------------------------------------

STATUSES = {
    400: "ValidationException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    529: "ServiceUnavailableException",
}


@pytest.mark.parametrize(("status", "code"), STATUSES.items())
def test_every_status_in_the_vendors_shape(client: Any, status: int, code: str) -> None:
    for method in (client.converse, client.converse_stream):
        with pytest.raises(ClientError) as caught:
            method(modelId=f"sim-claude+status={status}", messages=CONVERSATION)
        error = caught.value.response
        assert error["Error"] == {"Code": code, "Message": f"Simulated status {status}."}
        assert error["ResponseMetadata"]["HTTPStatusCode"] == status


def test_an_exception_in_mid_stream(client: Any) -> None:
    answer = client.converse_stream(modelId="sim-claude+text+miderror=3", messages=CONVERSATION)
    with contextlib.closing(answer["stream"]) as stream:
        assert "messageStart" in next(iter(stream))
        with pytest.raises(EventStreamError, match="serviceUnavailableException"):
            list(stream)


def test_every_frame_passes_its_checksums(simulator: SimulatorServer) -> None:
    answer = httpx.post(
        f"{simulator.url}/bedrock/model/sim-claude+tools/converse-stream",
        json={"messages": CONVERSATION},
        headers={"authorization": "Bearer k"},
    )
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    buffer = EventStreamBuffer()
    buffer.add_data(answer.content)
    kinds = [message.headers[":event-type"] for message in buffer]
    assert kinds[0] == "messageStart"
    assert kinds[-2:] == ["messageStop", "metadata"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario", NAMES)
def test_our_codec_reads_every_scenario(
    simulator: SimulatorServer, scenario: str, stream: bool
) -> None:
    codec = bedrock_converse_stream.CODEC
    target = through_codec.spec(codec, model("sim-claude", scenario), quirks=Quirks(is_claude=True))
    request = through_codec.hello(tools=through_codec.TOOLS, stream=stream)
    events = through_codec.play(f"{simulator.url}/bedrock", codec, request, target)
    heard = through_codec.heard(events)
    said = SAID[scenario]
    if scenario == "refusal":
        said = Said(said.text, reason="content_filter")
    if scenario == "badargs":
        said = Said(calls=said.calls if stream else (), reason="error")
    assert heard == said
    assert simulator.rules() == []
