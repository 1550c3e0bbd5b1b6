"""A protocol under a new slug, added by an installed package, is judged by the same suite."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from providers.protocols import registry
from tests.conformance import (
    reply_cells,
    test_cuttings,
    test_hostile,
    test_replies,
    test_requests,
    test_second_turn,
    upstreams,
)
from tests.conformance.reply_cells import Transcript
from tests.conformance.request_scenarios import GROUPS

SLUG: Final = "acme-wire"
# Its own slug, address and model; what it says is as Mistral says it.
PACKAGE: Final = """
import msgspec
from providers.protocols import mistral_conversations
from providers.protocols.canonical import ModelSpec
from providers.simulator.conformance.played import Played
from providers.simulator.wire import WireRoute, mistral


class Codec(type(mistral_conversations.CODEC)):
    slug = "acme-wire"

    def encode_request(self, request, model, *, request_id):
        call = super().encode_request(request, model, request_id=request_id)
        return msgspec.structs.replace(call, path="/acme/chat", body={FORGETS})


class Vendor(type(mistral.WIRES[0])):
    slug = "acme-wire"
    routes = (WireRoute("POST", "/base/acme/chat", "chat"),)


Codec.played = Played(
    model=ModelSpec(
        id="sim-mistral",
        protocol="acme-wire",
        reasoning=True,
        levels={"off": "none", "minimal": None, "low": None, "medium": None, "high": "high"},
        max_output_tokens=32_000,
    ),
    wires=(Vendor(),),
    base_path="/base",
    like="mistral-conversations",
)
CODEC = Codec()
"""


def install(folder: Path, forgets: str) -> None:
    """A distribution as pip would leave it."""
    (folder / "acme_wire.py").write_text(PACKAGE.replace("{FORGETS}", forgets))
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{SLUG} = acme_wire:CODEC\n")


@pytest.fixture(params=["call.body"])
def added(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """`param` is what its codec makes of the body."""
    install(tmp_path, request.param)
    monkeypatch.syspath_prepend(tmp_path)
    registry.forget()
    upstreams.look_for_added()
    reply_cells.transcript.cache_clear()
    yield
    upstreams.ADDED.pop(SLUG, None)
    upstreams.MODELS.pop(SLUG, None)
    sys.modules.pop("acme_wire", None)
    monkeypatch.undo()
    registry.forget()
    reply_cells.transcript.cache_clear()


def cells(test: Callable[..., None]) -> list[dict[str, Any]]:
    """Every set of parameters of a test of the suite, for this upstream."""
    names, values = [], []
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names.append(mark.args[0])
            values.append([SLUG] if mark.args[0] == "upstream" else mark.args[1])
    assert "upstream" in names, test.__name__
    return [dict(zip(names, cell, strict=True)) for cell in product(*values)]


SUITE: Final = [
    test_requests.test_vendors_accept_what_is_sent,
    test_requests.test_streaming_changes_only_how_the_answer_comes,
    test_replies.test_recorded_transcripts,
    test_replies.test_what_the_vendor_meant_is_heard,
    test_replies.test_a_broken_stream_is_an_error_for_the_client,
    test_cuttings.test_any_cutting_gives_the_same_events,
    test_hostile.test_deep_nesting_is_an_error_not_a_crash,
    test_second_turn.test_an_answer_returns_to_its_vendor,
]


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("test", SUITE, ids=lambda test: test.__name__)
def test_an_added_protocol_passes_the_suite(test: Callable[..., None]) -> None:
    assert isinstance(reply_cells.transcript(SLUG, "tools"), Transcript)
    for cell in cells(test):
        test(**cell)


@pytest.mark.parametrize("added", ["call.body | {'surprise': 1}"], indirect=True)
@pytest.mark.usefixtures("added")
def test_one_that_sends_what_its_vendor_refuses_does_not() -> None:
    with pytest.raises(AssertionError, match="surprise"):
        test_requests.test_vendors_accept_what_is_sent(SLUG, GROUPS[0])


@pytest.mark.usefixtures("added")
def test_one_that_does_not_say_how_it_is_played_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(type(registry.codec(SLUG)), "played")
    upstreams.MODELS.pop(SLUG)
    upstreams.ADDED.pop(SLUG)
    upstreams.look_for_added()
    with pytest.raises(AssertionError, match="no `played`"):
        test_requests.test_every_protocol_has_a_model_in_the_table()
