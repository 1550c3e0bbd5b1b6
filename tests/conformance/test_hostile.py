"""Bars I4 and I6: hostile bytes give typed errors, sound events, and no runaway memory."""

from __future__ import annotations

import contextlib
import os
import resource
import sys

import pytest

from controlplane.kit import json
from providers.protocols import registry
from providers.protocols.codec import Restore
from providers.protocols.errors import RemoteProtocolError
from tests.conformance import upstreams
from tests.conformance.hostile import ATTACKS, Attack

INPUTS = 150
SOAK_INPUTS = 1_000_000
SOAK_MEMORY = 256 * 1024 * 1024

every_attack = pytest.mark.parametrize(
    "attack", ATTACKS, ids=[f"{one.door}-{one.slug}" for one in ATTACKS]
)


@every_attack
def test_hostile_inputs(attack: Attack) -> None:
    attack.run(seed=1, count=INPUTS)


@pytest.mark.soak
@every_attack
def test_a_million_hostile_inputs(attack: Attack) -> None:
    """A million over all doors; PCP_SOAK_SEED gives another million."""
    before = _peak()
    share = -(-SOAK_INPUTS // len(ATTACKS))
    done = attack.run(seed=int(os.environ.get("PCP_SOAK_SEED", "2")), count=share)
    assert done == share
    assert _peak() - before < SOAK_MEMORY


def _peak() -> int:
    """The most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)
def test_an_endless_line_or_frame_is_refused_before_it_is_held(upstream: str) -> None:
    """64 MiB without an end: refused long before that."""
    decoder = registry.upstream(upstream).stream_decoder(Restore(), upstreams.MODELS[upstream])
    is_binary = "amazon" in registry.upstream(upstream).stream_media_type
    chunk = b"\x7f" * 65_536 if is_binary else b'data: "' + b"x" * 65_536
    fed = 0
    with contextlib.suppress(RemoteProtocolError):
        while fed < 64 * 1024 * 1024:
            decoder.feed(chunk)
            chunk = chunk.removeprefix(b"data: ")
            fed += len(chunk)
    assert fed < 20 * 1024 * 1024, "it was held"


@pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)
@pytest.mark.parametrize("depth", [100, 900, 20_000])
def test_deep_nesting_is_an_error_not_a_crash(upstream: str, depth: int) -> None:
    codec, model = registry.upstream(upstream), upstreams.MODELS[upstream]
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        nested = opening * depth + b"1" + closing * depth
        for body in (nested, b'{"error":' + nested + b"}", b'{"choices":' + nested + b"}"):
            assert codec.decode_error(500, {}, body).message
            try:
                events = codec.decode_answer(body, Restore(), model)
            except RemoteProtocolError:
                continue
            json.dumps(events)
