"""Every request scenario × client dialect × upstream protocol.

The golden file of a cell holds the encoded body, the loss report, or the reason why the gateway
refuses it; the simulated vendor and the vendor's own types judge each body independently.
"""

from __future__ import annotations

import msgspec
import pytest

from controlplane.kit import json
from providers.protocols import registry
from providers.protocols.errors import LocalProtocolError
from providers.protocols.losses import LossCode
from tests.conformance import golden, judges, request_cells, upstreams
from tests.conformance.meaning import plain
from tests.conformance.request_cells import REQUEST_ID, TYPES_SAY_NO, VENDOR_SAYS_NO, Sent
from tests.conformance.request_scenarios import GROUPS, REQUESTS
from tests.conformance.written import DIALECTS
from tests.conformance.written.wording import Written

BY_GROUP = {
    group: [name for name, scenario in REQUESTS.items() if scenario.group == group]
    for group in GROUPS
}
# Bodies that official SDKs do not write, but clients in the field do.
UNTYPED = {
    ("openai-completions", "video"): "video_url: vLLM's and Qwen's clients",
    ("openai-completions", "builtin-chat"): "a vendor's own tool has no type in OpenAI's SDK",
    ("openai-completions", "tool-result-image"): "pictures in tool messages: many agents",
    ("openai-responses", "audio"): "input_audio: left out of the SDK's types",
    ("google-generative-ai", "unknown-field"): "nobody knows it",
}

in_every_dialect = pytest.mark.parametrize("dialect", DIALECTS)
in_every_group = pytest.mark.parametrize("group", GROUPS)
to_every_upstream = pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)


def test_every_protocol_has_a_model_in_the_table() -> None:
    """An installed package's protocol says how it is played: see CONTRIBUTING."""
    assert set(registry.slugs()) == set(upstreams.UPSTREAMS), "its CODEC has no `played`"


@in_every_dialect
@in_every_group
def test_what_clients_write(dialect: str, group: str) -> None:
    """The test's own writer, the vendor's SDK and our decoder agree on what was said."""
    shown = {}
    for name in BY_GROUP[group]:
        found = request_cells.written(dialect, name)
        if not isinstance(found, Written):
            shown[name] = {"cannot_say": found}
            continue
        shown[name] = {"body": found.body}
        if dialect in judges.CLIENTS and (dialect, name) not in UNTYPED:
            judges.CLIENTS[dialect](json.loads_dict(json.dumps(found.body)))
        understood = request_cells.decoded(dialect, name)
        assert understood is not None
        assert plain(understood, dialect) == plain(REQUESTS[name].request, dialect), name
    golden.check(f"{dialect}/asked-{group}", shown)


@to_every_upstream
@in_every_group
def test_what_vendors_get(upstream: str, group: str) -> None:
    golden.check(
        f"{upstream}/requests-{group}",
        {
            name: {
                "asks": REQUESTS[name].summary,
                "cells": request_cells.row(upstream, name).shown(),
            }
            for name in BY_GROUP[group]
        },
    )


@to_every_upstream
@in_every_group
def test_vendors_accept_what_is_sent(upstream: str, group: str) -> None:
    """Both judges, in every cell; an exception needs its reason in the table, and must be true."""
    unexpected: list[str] = []
    refusals: set[tuple[str, str, str]] = set()
    for name in BY_GROUP[group]:
        for dialect in DIALECTS:
            cell = request_cells.asked(upstream, dialect, name)
            if not isinstance(cell, Sent):
                continue
            for kind, said, known in (
                ("vendor", cell.vendor_refuses, VENDOR_SAYS_NO),
                ("types", cell.types_refuse, TYPES_SAY_NO),
            ):
                if said:
                    refusals.add((kind, upstream, name))
                if said and (upstreams.known_as(upstream), name) not in known:
                    unexpected.append(f"{dialect} {name}: {said}")
    assert not unexpected, "\n".join(unexpected)
    for kind, known in (("vendor", VENDOR_SAYS_NO), ("types", TYPES_SAY_NO)):
        for slug, name in known:
            if slug == upstream and name in BY_GROUP[group]:
                assert (kind, slug, name) in refusals, f"{name} is accepted now: drop its reason"


@to_every_upstream
@in_every_dialect
def test_encoding_is_a_function(upstream: str, dialect: str) -> None:
    """The same input gives the same output, and stays as it was."""
    codec, model = registry.upstream(upstream), upstreams.MODELS[upstream]
    for name in REQUESTS:
        request = request_cells.decoded(dialect, name)
        if request is None:
            continue
        before = json.dumps(request)
        try:
            first = codec.encode_request(request, model, request_id=REQUEST_ID)
        except LocalProtocolError:
            continue  # the reason stands in the golden file
        again = codec.encode_request(request, model, request_id=REQUEST_ID)
        assert json.dumps(request) == before, name
        assert json.dumps(msgspec.to_builtins(first)) == json.dumps(msgspec.to_builtins(again))
        for loss in first.losses:
            assert loss.path, name
            assert loss.why, name
            assert loss.code in LossCode
        assert len(set(first.losses)) == len(first.losses), f"{name}: a loss is told twice"


@to_every_upstream
@in_every_dialect
def test_streaming_changes_only_how_the_answer_comes(upstream: str, dialect: str) -> None:
    """The same request with and without `stream`: the same losses, the same refusal."""
    codec, model = registry.upstream(upstream), upstreams.MODELS[upstream]
    for name in REQUESTS:
        request = request_cells.decoded(dialect, name)
        if request is None:
            continue
        outcomes = []
        for stream in (False, True):
            asked = msgspec.structs.replace(request, stream=stream)
            try:
                outcomes.append(codec.encode_request(asked, model, request_id=REQUEST_ID).losses)
            except LocalProtocolError as error:
                outcomes.append(error.message)
        assert outcomes[0] == outcomes[1], name
