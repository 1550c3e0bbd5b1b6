"""The simulator's provider file against the simulator itself: every chat model answers, over
its own wire, and breaks none of the vendors' rules."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.effective import EffectiveModel, Registration, effective
from providers.catalog.listings import read_page
from providers.catalog.loader import catalog
from providers.protocols import registry
from providers.protocols.canonical import End, Message, Request, Text, TextDelta, UsageUpdate
from providers.signing import schemes
from tests.simulator_server import SimulatorServer, simulator, simulator_door

__all__ = ["simulator", "simulator_door"]
NAMES = [model.id for model in catalog()["simulator"].models if model.kind == "chat"]


def models(server: SimulatorServer) -> dict[str, EffectiveModel]:
    made = effective(
        Registration(slug="sim", catalog_id="simulator", endpoint={"origin": server.url}),
        catalog()["simulator"],
    )
    return {model.spec.id: model for model in made.models}


def ask(model: EffectiveModel, *, stream: bool) -> Iterator[object]:
    request = Request(
        model=model.spec.id,
        dialect="openai-completions",
        messages=(Message(role="user", parts=(Text(text="Say hello"),)),),
        stream=stream,
    )
    codec = registry.upstream(model.spec.protocol)
    call = codec.encode_request(request, model.spec, request_id="req-1")
    query = "&".join(f"{name}={value}" for name, value in call.query.items())
    url = model.base_url + call.path + (f"?{query}" if query else "")
    sent = urllib.request.Request(
        url,
        json.dumps(call.body).encode(),
        {
            "Content-Type": "application/json",
            **model.headers,
            **call.headers,
            **schemes.headers(model.scheme, Secret("sim-key")),
        },
    )
    with urllib.request.urlopen(sent, timeout=20) as answer:
        data = answer.read()
    if not call.stream:
        yield from codec.decode_answer(data, call.restore, model.spec)
        return
    decoder = codec.stream_decoder(call.restore, model.spec)
    yield from decoder.feed(data)
    yield from decoder.close()


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", NAMES)
def test_every_model_answers_by_the_rules(
    simulator: SimulatorServer, name: str, stream: bool
) -> None:
    events = list(ask(models(simulator)[name], stream=stream))
    assert simulator.rules() == []
    assert isinstance(events[-1], End)
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    texts = [
        event.block.text  # type: ignore[attr-defined]
        for event in events
        if getattr(getattr(event, "block", None), "text", "")
    ]
    assert said or texts
    assert any(isinstance(event, UsageUpdate) for event in events)


def test_its_listing_can_be_read(simulator: SimulatorServer) -> None:
    asked = urllib.request.Request(
        f"{simulator.url}/openai/v1/models", headers={"Authorization": "Bearer sim-key"}
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        listed = {model.id for model in read_page("openai", answer.read()).models}
    ours = catalog()["simulator"].models
    assert {model.id for model in ours if model.kind != "chat"} <= listed
