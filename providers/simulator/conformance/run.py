"""Asks every case of one endpoint and notes what came back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from controlplane.kit import json
from controlplane.kit.errors import GatewayError
from controlplane.kit.secret import Secret
from providers.protocols import registry
from providers.protocols.canonical import Event, ModelSpec
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import LocalProtocolError
from providers.protocols.quirks import Quirks
from providers.signing import schemes
from providers.signing.schemes import AuthScheme
from providers.simulator.conformance.cases import Case, Wrong, cases
from providers.upstream.client import Timeouts, UpstreamClient

BEARER: Final = AuthScheme()
Verdict = Literal["pass", "loss", "refused", "fail"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, in which protocol, as whom."""

    base_url: str
    protocol: str
    model: str
    key: Secret | None = None
    scheme: AuthScheme = BEARER
    identifiers: tuple[tuple[str, str], ...] = ()


class Result(msgspec.Struct, frozen=True):
    """`refused` = the endpoint said clearly that it does not do this; `loss` = it did, and
    the translation named what it could not carry."""

    case: str
    feature: str
    verdict: Verdict
    detail: str
    milliseconds: float
    losses: tuple[str, ...] = ()


async def run(
    endpoint: Endpoint, client: UpstreamClient, on_result: Callable[[Result], None]
) -> list[Result]:
    results: list[Result] = []
    for case in cases(endpoint.model):
        result = await ask(endpoint, client, case)
        results.append(result)
        on_result(result)
    return results


async def ask(endpoint: Endpoint, client: UpstreamClient, case: Case) -> Result:
    started = time.perf_counter()
    losses: tuple[str, ...] = ()
    verdict: Verdict
    try:
        call = _encoded(endpoint, case)
        losses = tuple(f"{loss.path}: {loss.why}" for loss in call.losses if loss.is_lossy)
        status, events, message = await _exchange(endpoint, client, case, call)
        verdict, detail = _judged(case, status, events, message)
    except LocalProtocolError as error:
        verdict, detail = "refused", f"the protocol cannot carry it: {error.message}"
    except GatewayError as error:
        verdict, detail = "fail", error.message
    if verdict == "pass" and losses:
        verdict = "loss"
    spent = round((time.perf_counter() - started) * 1000, 1)
    return Result(case.name, case.feature, verdict, detail, spent, losses)


def features(results: list[Result]) -> dict[str, bool]:
    """What the results prove: a capability is there when every case of it passed."""
    found: dict[str, bool] = {}
    for result in results:
        if result.feature:
            passed = result.verdict in ("pass", "loss")
            found[result.feature] = found.get(result.feature, True) and passed
    return found


def _judged(case: Case, status: int, events: list[Event], message: str) -> tuple[Verdict, str]:
    if case.refused_with:
        if status in case.refused_with:
            return "pass", f"status {status}"
        return "fail", f"status {status} instead of a refusal"
    if status in (400, 404, 415, 422, 501) and case.feature:
        return "refused", message
    if status != 200:
        return "fail", f"status {status}: {message}"
    try:
        case.judge(events)
    except Wrong as wrong:
        return "fail", str(wrong)
    return "pass", ""


def _spec(endpoint: Endpoint, model: str) -> ModelSpec:
    return ModelSpec(
        id=model,
        protocol=endpoint.protocol,
        modalities=("text", "image"),
        reasoning=True,
        # What the protocol itself has is asked for: whether the endpoint has it is the question.
        quirks=Quirks(supports_output_format=True),
        endpoint=dict(endpoint.identifiers),
    )


def _encoded(endpoint: Endpoint, case: Case) -> UpstreamCall:
    model = "no-such-model" if case.wrong_model else endpoint.model
    codec = registry.upstream(endpoint.protocol)
    return codec.encode_request(case.request, _spec(endpoint, model), request_id=case.name)


async def _exchange(
    endpoint: Endpoint, client: UpstreamClient, case: Case, call: UpstreamCall
) -> tuple[int, list[Event], str]:
    """(status, events of a 200, the endpoint's own sentence otherwise)."""
    shown = replace(endpoint, key=Secret("wrong-key")) if case.wrong_key else endpoint
    url = endpoint.base_url.rstrip("/") + call.path
    if call.query:
        url += "?" + "&".join(f"{name}={value}" for name, value in call.query.items())
    response = await client.send(
        "POST",
        url,
        headers={
            "Content-Type": "application/json",
            **call.headers,
            **schemes.headers(shown.scheme, shown.key),
        },
        body=json.dumps(call.body),
        timeouts=Timeouts(first_byte_seconds=120, idle_seconds=120),
    )
    spec = _spec(endpoint, endpoint.model)
    codec = registry.upstream(endpoint.protocol)
    try:
        if response.status != 200:
            lowered = {name.lower(): value for name, value in response.headers.items()}
            fault = codec.decode_error(response.status, lowered, await response.read())
            return response.status, [], fault.message
        if not case.request.stream:
            return 200, codec.decode_answer(await response.read(), call.restore, spec), ""
        decoder = codec.stream_decoder(call.restore, spec)
        events: list[Event] = []
        async for chunk in response.chunks():
            events += decoder.feed(chunk)
        return 200, events + decoder.close(), ""
    finally:
        response.close()
