"""Every reply scenario × upstream protocol × client dialect.

The simulated vendors play the scenario on their own wire; our decoder reads it, our encoder
writes it for the client, and the official SDK reads that. Whoever reads must see what was meant,
or `explained` says why not.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict
from providers.protocols import registry
from providers.protocols.canonical import Event, Failed, KeepAlive
from providers.protocols.codec import Reply
from providers.protocols.errors import RemoteProtocolError
from tests.conformance import explained, golden, reply_cells, upstreams
from tests.conformance.explained import Reason, unexplained
from tests.conformance.reply_cells import Transcript, differences
from tests.conformance.reply_scenarios import BROKEN, REPLIES, WHOLE
from tests.conformance.reply_words import STOPS
from tests.conformance.sdks import READERS
from tests.conformance.seen import Seen, of_events
from tests.conformance.upstreams import ADDED, known_as
from tests.conformance.written import DIALECTS

for_every_upstream = pytest.mark.parametrize("upstream", upstreams.UPSTREAMS)
in_every_dialect = pytest.mark.parametrize("dialect", DIALECTS)
# Too long to be read as a golden file.
UNRECORDED = {"long"}
SIZES = (1, 7, 64, 4096)


def played(upstream: str, name: str) -> Transcript | None:
    found = reply_cells.transcript(upstream, name)
    return found if isinstance(found, Transcript) else None


def heard(upstream: str, name: str) -> tuple[list[Event], list[Event]] | None:
    """Streamed and whole; None where the scenario is never asked of this upstream."""
    found = played(upstream, name)
    if found is None or found.answer is None:
        return None
    restore = found.call.restore
    return (
        reply_cells.decoded(upstream, found.stream, restore),
        reply_cells.decoded_whole(upstream, found.answer, restore),
    )


@for_every_upstream
def test_recorded_transcripts(upstream: str) -> None:
    """The bytes of the golden files, in any pieces, give the events beside them."""
    ending = (
        "sse" if "event-stream" not in _media(upstream) or "text" in _media(upstream) else ("bin")
    )
    for name, row in REPLIES.items():
        if name in UNRECORDED:
            continue
        found = played(upstream, name)
        if found is None:
            continue
        folder = f"{upstream}/replies"
        golden.check_bytes(f"{folder}/{name}.{ending}", found.stream)
        data = found.stream if upstream in ADDED else golden.read_bytes(f"{folder}/{name}.{ending}")
        restore = found.call.restore
        events = reply_cells.decoded(upstream, data, restore)
        for size in SIZES:
            assert reply_cells.decoded(upstream, data, restore, size) == events, (name, size)
        shown: JSONDict = {"asks": row.summary, "events": msgspec.to_builtins(events)}
        if found.answer is not None and ending == "sse" and found.answer[:1] == b"{":
            shown["answer"] = msgspec.json.decode(found.answer)
        golden.check(f"{folder}/{name}", shown)


def _media(upstream: str) -> str:
    return registry.upstream(upstream).stream_media_type


@for_every_upstream
def test_what_the_vendor_meant_is_heard(upstream: str) -> None:
    used: set[Reason] = set()
    for name in WHOLE:
        pair = heard(upstream, name)
        if pair is None:
            continue
        streamed, whole = (of_events(events) for events in pair)
        found = differences(reply_cells.said_by(upstream, name), streamed, with_ids=False)
        left = unexplained(explained.WIRE_CANNOT_SAY, known_as(upstream), name, list(found), used)
        assert not left, (name, found)
        lost = differences(streamed, whole)
        left = unexplained(explained.WHOLE_SAYS_LESS, known_as(upstream), name, list(lost), used)
        assert not left, (name, lost)
    for reason in (*explained.WIRE_CANNOT_SAY, *explained.WHOLE_SAYS_LESS):
        assert upstream not in reason.of or reason in used, f"not needed any more: {reason}"


@for_every_upstream
def test_what_was_heard_is_shown(upstream: str) -> None:
    cells: dict[str, Any] = {}
    for name, row in REPLIES.items():
        if row.breaks:
            continue
        pair = heard(upstream, name)
        cells[name] = {"asks": row.summary}
        if pair is None:
            cells[name]["never_asked"] = str(reply_cells.transcript(upstream, name))
            continue
        grouped: list[tuple[list[str], JSONDict]] = []
        for dialect in DIALECTS:
            if dialect not in reply_cells.dialects_of(name):
                continue
            cell = _cell(upstream, dialect, name, *pair)
            for dialects, known in grouped:
                if known == cell:
                    dialects.append(dialect)
                    break
            else:
                grouped.append(([dialect], cell))
        cells[name]["cells"] = [{"dialects": d, **cell} for d, cell in grouped]
    golden.check(f"{upstream}/replies", cells)


def _cell(
    upstream: str, dialect: str, name: str, events: list[Event], whole: list[Event]
) -> JSONDict:
    """What this client sees; every difference is explained, stream and whole answer agree."""
    used: set[Reason] = set()
    meant = of_events(events)
    if meant.choices and meant.choices[0].stop == "error" and dialect != "google-generative-ai":
        return _error_cell(dialect, name, events, whole)
    given = reply_cells.given(dialect, name, events, whole)
    found = _shown(meant, given.seen_stream, dialect)
    left = unexplained(explained.DIALECT_CANNOT_SHOW, dialect, name, list(found), used)
    assert not left, (dialect, name, found)
    found_whole = _shown(of_events(whole), given.seen_whole, dialect)
    left = unexplained(explained.DIALECT_CANNOT_SHOW, dialect, name, list(found_whole), used)
    assert not left, (dialect, name, found_whole)
    parity = list(differences(given.seen_stream, given.seen_whole))
    if not differences(meant, of_events(whole)) and name != "badargs":
        assert not parity, (dialect, name, parity)
    cell: JSONDict = {
        "stop": sorted({choice.stop for choice in given.seen_stream.choices}),
        "losses": sorted({f"{loss.path}: {loss.code} ({loss.why})" for loss in given.losses}),
    }
    if used:
        cell["differs"] = sorted({reason.why for reason in used if reason.fields != _UNCOUNTED})
    return cell


_UNCOUNTED = ("usage.cache_write",)


def _error_cell(dialect: str, name: str, events: list[Event], whole: list[Event]) -> JSONDict:
    """The model itself ended in an error: the client is told so, streamed or not."""
    data, _ = reply_cells.streamed(dialect, name, events)
    with pytest.raises(READERS[dialect].error) as caught:
        READERS[dialect].stream(data)
    request = reply_cells.client_request(dialect, name, stream=False)
    reply = Reply(request=request, id=reply_cells.ANSWER_ID, created=reply_cells.CREATED)
    try:
        answer = registry.client(dialect).encode_answer(whole, reply)
    except RemoteProtocolError as error:
        return {"error": error.message}
    assert answer.body["status"] == "failed"
    assert answer.body["error"]["message"] in str(caught.value)
    return {"error": answer.body["error"]["message"]}


def _shown(meant: Seen, seen: Seen, dialect: str) -> dict[str, JSONDict]:
    """Differences, with the reasons to stop in the dialect's own words."""
    found = differences(meant, seen)
    found.pop("stop", None)
    for was, now in zip(meant.choices, seen.choices, strict=False):
        if STOPS[dialect][was.stop] != now.stop:
            found["stop"] = {"was": was.stop, "is": now.stop}
    return found


@in_every_dialect
@pytest.mark.parametrize("name", BROKEN)
@for_every_upstream
def test_a_broken_stream_is_an_error_for_the_client(upstream: str, name: str, dialect: str) -> None:
    found = played(upstream, name)
    assert found is not None
    events = reply_cells.decoded(upstream, found.stream, found.call.restore)
    if known_as(upstream) == "kiro-generate-assistant" and name == "cut":
        # Kiro's stream has no last event: cut between two, it looks whole.
        assert not isinstance(events[-1], Failed)
        return
    last = events[-1]
    assert isinstance(last, Failed)
    fault = last.fault
    if name == "error":
        assert fault.kind is FaultKind.OVERLOADED
        assert "Overloaded in the middle." in fault.message
    else:
        assert fault.code == "stream_truncated"
    data, _ = reply_cells.streamed(dialect, name, events)
    with pytest.raises(READERS[dialect].error) as caught:
        READERS[dialect].stream(data)
    assert fault.message in str(caught.value)


@in_every_dialect
@pytest.mark.parametrize("name", ["tools", "thinktool", "unicode"])
def test_an_answer_may_be_given_up_anywhere(dialect: str, name: str) -> None:
    """An abort after any event: no terminator before, one error, nothing after."""
    pair = heard("openai-completions", name)
    assert pair is not None
    events = pair[0]
    fault = Fault(kind=FaultKind.TIMEOUT, code="given_up", message="The answer was given up.")
    for count in range(len(events)):
        data, _ = reply_cells.streamed(dialect, name, [*events[:count], Failed(fault)])
        with pytest.raises(READERS[dialect].error, match="given up"):
            READERS[dialect].stream(data)


@in_every_dialect
@pytest.mark.parametrize("name", ["tools", "thinktool", "interleaved", "unicode"])
def test_keep_alives_change_nothing(dialect: str, name: str) -> None:
    pair = heard("openai-completions", name)
    assert pair is not None
    quiet, _ = reply_cells.streamed(dialect, name, pair[0])
    waiting = [item for event in pair[0] for item in (KeepAlive(), event)]
    data, _ = reply_cells.streamed(dialect, name, waiting)
    assert READERS[dialect].stream(data) == READERS[dialect].stream(quiet)


@in_every_dialect
def test_nothing_leaves_after_the_end(dialect: str) -> None:
    pair = heard("openai-completions", "tools")
    assert pair is not None
    once, _ = reply_cells.streamed(dialect, "tools", pair[0])
    twice, _ = reply_cells.streamed(dialect, "tools", [*pair[0], *pair[0]])
    assert once == twice


@for_every_upstream
def test_an_unreadable_error_at_the_end_still_ends_the_stream(upstream: str) -> None:
    """The last event tells of an error in words that are no text: the stream was cut off."""
    if "amazon" in _media(upstream):
        pytest.skip("frames carry a checksum: half of one never arrives")
    found = played(upstream, "error")
    assert found is not None
    data = found.stream.replace(b"Overloaded", b"Over\xffloaded").rstrip(b"\r\n")
    events = reply_cells.decoded(upstream, data, found.call.restore)
    assert isinstance(events[-1], Failed)
