"""The answer goes back: what a client was given returns in its next request, and reaches the
vendor that made it whole; another vendor gets the conversation without the proofs."""

from __future__ import annotations

import msgspec
import pytest

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import registry
from providers.protocols.canonical import Reasoning, Request, Sampling
from providers.protocols.codec import ClientCall, Reply, UpstreamCall
from providers.protocols.losses import LossCode
from tests.conformance import reply_cells, upstreams
from tests.conformance.explained import GOOGLE
from tests.conformance.reply_cells import Transcript
from tests.conformance.reply_scenarios import REPLIES
from tests.conformance.seen import of_events
from tests.conformance.written import DIALECTS, WRITERS

SCENARIOS = ("tools", "thinking", "thinktool", "redacted")
# They take no proof back: Chat Completions vendors only where a quirk says so, Mistral makes
# none, and Kiro's history has no place for it.
TAKES_NO_PROOFS = {"openai-completions", "mistral-conversations", "kiro-generate-assistant"}


def _given(upstream: str, dialect: str, name: str) -> tuple[JSONDict, list[str], list[str]]:
    """The whole answer as the client got it, the ids of its calls, and its proofs."""
    found = reply_cells.transcript(upstream, name)
    assert isinstance(found, Transcript)
    assert found.answer is not None
    events = reply_cells.decoded_whole(upstream, found.answer, found.call.restore)
    request = reply_cells.client_request(dialect, name, stream=False)
    reply = Reply(request=request, id=reply_cells.ANSWER_ID, created=reply_cells.CREATED)
    answer = registry.client(dialect).encode_answer(events, reply)
    [choice] = of_events(events).choices
    body = json.loads_dict(json.dumps(answer.body))
    return body, [call_id for call_id, _, _ in choice.calls], choice.proofs


def _next_body(dialect: str, first: Request, answer: JSONDict, ids: list[str]) -> JSONDict:
    """What clients do: the answer as it came, then a result for every call, or a question."""
    body = json.loads_dict(json.dumps(WRITERS[dialect](first).body))
    match dialect:
        case "openai-completions":
            body["messages"].append(answer["choices"][0]["message"])
            body["messages"] += [
                {"role": "tool", "tool_call_id": call_id, "content": "12 degrees"}
                for call_id in ids
            ] or [{"role": "user", "content": "And?"}]
        case "openai-responses":
            body["input"] += answer["output"]
            body["input"] += [
                {"type": "function_call_output", "call_id": call_id, "output": "12 degrees"}
                for call_id in ids
            ] or [{"role": "user", "content": "And?"}]
        case "anthropic-messages":
            body["messages"].append({"role": "assistant", "content": answer["content"]})
            results = [
                {"type": "tool_result", "tool_use_id": call_id, "content": "12 degrees"}
                for call_id in ids
            ]
            body["messages"].append({"role": "user", "content": results or "And?"})
        case _:
            content = answer["candidates"][0]["content"]
            body["contents"].append(content)
            calls = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
            results = [
                {
                    "functionResponse": {
                        "id": call.get("id"),
                        "name": call["name"],
                        "response": {"output": "12 degrees"},
                    }
                }
                for call in calls
            ]
            body["contents"].append({"role": "user", "parts": results or [{"text": "And?"}]})
    return body


def _second(upstream: str, dialect: str, name: str) -> tuple[Request, list[str]]:
    first = msgspec.structs.replace(
        REPLIES[name].request,
        reasoning=Reasoning(level="high"),
        sampling=Sampling(max_output_tokens=32_000),
    )
    answer, ids, proofs = _given(upstream, dialect, name)
    body = _next_body(dialect, first, answer, ids)
    call = ClientCall(model="asked-model", stream=True)
    return registry.client(dialect).decode_request(body, call), proofs


def _encoded(request: Request, upstream: str) -> UpstreamCall:
    model = upstreams.MODELS[upstream]
    return registry.upstream(upstream).encode_request(request, model, request_id="req_2")


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)
def test_an_answer_returns_to_its_vendor(upstream: str, dialect: str, name: str) -> None:
    request, proofs = _second(upstream, dialect, name)
    call = _encoded(request, upstream)
    ask = upstreams.checked(call, upstream)
    assert ask.has_tool_results is (name in ("tools", "thinktool"))
    known = upstreams.known_as(upstream)
    if known in TAKES_NO_PROOFS:
        return
    sent = json.dumps_str(call.body)
    assert proofs or known == "google-gemini-cli" or name == "tools"
    for proof in proofs:
        assert proof in sent, f"{proof[:20]}… did not return"
    if known not in GOOGLE:
        # Google signs what follows its thoughts; those themselves need not go back.
        assert not [loss for loss in call.losses if loss.code is LossCode.SIGNATURE_DROPPED]


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)
def test_another_vendor_gets_it_without_proofs(upstream: str, dialect: str, name: str) -> None:
    """Every other protocol in turn: its vendor accepts the conversation, no proof leaks."""
    request, proofs = _second(upstream, dialect, name)
    for other in upstreams.UPSTREAMS:
        if other == upstream:
            continue
        call = _encoded(request, other)
        upstreams.checked(call, other)
        sent = json.dumps_str(call.body)
        for proof in proofs:
            assert proof not in sent, f"a proof of {upstream} went to {other}"
        if proofs:
            assert any(loss.code is LossCode.SIGNATURE_DROPPED for loss in call.losses), other
