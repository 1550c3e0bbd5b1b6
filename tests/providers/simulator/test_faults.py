"""Every fault does on the wire what its description says."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from providers.protocols.eventstream import MEDIA_TYPE, EventStreamDecoder
from providers.simulator import faults
from providers.simulator.faults import FAULTS, Scheduled, schedule_of
from providers.simulator.world import World
from tests.providers.simulator.raw_http import Answer, Caller, ask, chat, claude
from tests.simulator_server import SimulatorServer, serve

CHAT = "/openai/v1/chat/completions"
MESSAGES = "/anthropic/v1/messages"
RESPONSES = "/openai/v1/responses"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def plain(simulator: SimulatorServer, fault: str, **fields: Any) -> Answer:
    return ask(simulator.url, CHAT, chat(f"sim-gpt+{fault}", **fields))


def streamed(simulator: SimulatorServer, fault: str) -> Answer:
    return plain(simulator, f"text+tokens=20+{fault}", stream=True)


# --- answers in the vendor's shape -------------------------------------------------------------

STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_status_comes_in_the_shape_of_openai(
    simulator: SimulatorServer, status: int, stream: bool
) -> None:
    answer = plain(simulator, f"status={status}", stream=stream)
    assert answer.status == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == {429: "requests"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_status_comes_in_the_shape_of_anthropic(
    simulator: SimulatorServer, status: int, kind: str
) -> None:
    answer = ask(simulator.url, MESSAGES, claude(f"sim-claude+status={status}"))
    assert answer.status == status
    body = answer.json()
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize(
    ("after", "seconds", "milliseconds"), [("2", "2", "2000"), ("0.25", "1", "250")]
)
def test_a_429_says_how_long_to_wait(
    simulator: SimulatorServer, after: str, seconds: str, milliseconds: str
) -> None:
    simulator.world.set_clock(NOON)
    answer = plain(simulator, f"status=429+after={after}")
    assert answer.headers["retry-after"] == seconds
    assert answer.headers["retry-after-ms"] == milliseconds
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_429_may_say_nothing_about_waiting(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "status=429")
    assert "retry-after" not in answer.headers
    assert "retry-after-ms" not in answer.headers


def test_a_429_may_name_a_date(simulator: SimulatorServer) -> None:
    simulator.world.set_clock(NOON)
    answer = plain(simulator, "status=429+afterdate=90")
    at = parsedate_to_datetime(answer.headers["retry-after"])
    assert (at - NOON).total_seconds() == 90
    assert "retry-after-ms" not in answer.headers


def test_anthropic_says_when_its_limits_reset(simulator: SimulatorServer) -> None:
    simulator.world.set_clock(NOON)
    answer = ask(simulator.url, MESSAGES, claude("sim-claude+status=429+after=30"))
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert answer.headers["anthropic-ratelimit-requests-reset"] == "2026-01-01T12:00:30Z"


def test_a_quota_is_exhausted_until_its_time(simulator: SimulatorServer) -> None:
    simulator.world.set_clock(NOON)
    first = plain(simulator, "quota=3600")
    assert first.status == 429
    assert first.json()["error"]["code"] == "insufficient_quota"
    assert first.headers["retry-after"] == "3600"
    simulator.world.advance(3599)
    assert plain(simulator, "quota=3600").headers["retry-after"] == "1"
    simulator.world.advance(1)
    assert plain(simulator, "quota=3600").status == 200


def test_a_filtered_prompt_is_a_400(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "promptfilter")
    assert (answer.status, answer.json()["error"]["code"]) == (400, "content_filter")
    assert simulator.rules() == []


# --- answers that are none ---------------------------------------------------------------------


def test_html_instead_of_an_answer(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "html=503")
    assert (answer.status, answer.headers["content-type"]) == (503, "text/html")
    assert answer.body.startswith(b"<html>")


def test_a_status_without_a_body(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "emptybody=502")
    assert (answer.status, answer.body, answer.ending) == (502, b"", "whole")


def test_a_redirect_that_nobody_should_follow(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "redirect")
    assert (answer.status, answer.headers["location"]) == (307, "/elsewhere")
    assert simulator.rules() == []
    assert ask(simulator.url, "/elsewhere", {}).status == 404
    assert simulator.rules() == ["path"]


def test_dropped_without_a_status_line(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "drop")
    assert (answer.status, answer.ending) == (0, "reset")


# --- broken bodies -----------------------------------------------------------------------------


def test_a_proper_gzip_body(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body))["choices"]
    parts = streamed(simulator, "gzip")
    assert gzip.decompress(parts.body).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
def test_a_gzip_body_cut_in_half(simulator: SimulatorServer, stream: bool) -> None:
    answer = plain(simulator, "badgzip", stream=stream)
    assert (answer.headers["content-encoding"], answer.ending) == ("gzip", "whole")
    unpacker = zlib.decompressobj(wbits=31)
    unpacker.decompress(answer.body)
    assert not unpacker.eof
    with pytest.raises(EOFError):
        gzip.decompress(answer.body)


@pytest.mark.parametrize("stream", [False, True])
def test_a_length_that_is_never_reached(simulator: SimulatorServer, stream: bool) -> None:
    answer = plain(simulator, "short", stream=stream)
    assert answer.ending == "closed"
    assert int(answer.headers["content-length"]) == len(answer.body) + 100


@pytest.mark.parametrize("stream", [False, True])
def test_bytes_that_are_no_text(simulator: SimulatorServer, stream: bool) -> None:
    answer = plain(simulator, "text+tokens=20+latin", stream=stream)
    assert answer.ending == "whole"
    with pytest.raises(UnicodeDecodeError):
        answer.body.decode()


def test_half_a_json_body(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "badjson")
    assert answer.ending == "whole"
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_half_a_json_event(simulator: SimulatorServer) -> None:
    answer = streamed(simulator, "badjson")
    events = [event for event in answer.body.split(b"\n\n") if event]
    assert events[-1] == b"data: [DONE]"
    with pytest.raises(json.JSONDecodeError):
        json.loads(events[2].removeprefix(b"data: "))


def test_one_megabyte_in_a_line(simulator: SimulatorServer) -> None:
    answer = streamed(simulator, "line=1048576")
    longest = max(answer.body.split(b"\n"), key=len)
    assert longest == b": " + b"x" * 1_048_576
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_a_long_line_before_a_whole_answer(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "line=100000")
    assert answer.body.startswith(b" " * 100_000 + b"{")
    assert answer.json()["choices"]


@pytest.mark.parametrize("stream", [False, True])
def test_two_hundred_megabytes_are_never_held(stream: bool) -> None:
    size = 200_000_000
    with serve() as simulator, Caller(simulator.url) as caller:
        tracemalloc.start()
        try:
            caller.ask(CHAT, chat(f"sim-gpt+line={size}", stream=stream))
            caller.head()
            # The head's last read may have taken the first of the body along.
            received = 64 * 1024
            block = bytearray(1 << 20)
            while received < size and (count := caller.socket.recv_into(block)):
                received += count
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received >= size
    assert peak < 16_000_000


def test_a_binary_frame_as_long_as_asked() -> None:
    response = faults.streamed([b"", b""], {"line": "70000"}, b"", World(), MEDIA_TYPE)

    async def collected() -> bytes:
        assert not isinstance(response.body, bytes)
        return b"".join([piece async for piece in response.body])

    (frame,) = EventStreamDecoder().feed(asyncio.run(collected()))
    assert frame.payload == b"x" * 70_000


# --- broken connections --------------------------------------------------------------------------


def test_a_stream_is_reset_after_its_pieces(simulator: SimulatorServer) -> None:
    answer = streamed(simulator, "reset=5")
    assert answer.ending == "reset"
    assert 1 <= len(answer.events()) <= 5


def test_a_whole_answer_is_reset_in_the_middle(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "reset")
    assert answer.ending == "reset"
    assert len(answer.body) < int(answer.headers["content-length"])


def test_a_stream_ends_early_as_if_that_were_all(simulator: SimulatorServer) -> None:
    answer = streamed(simulator, "cut=5")
    assert answer.ending == "whole"
    assert len(answer.events()) == 5
    assert b"[DONE]" not in answer.body


def test_a_whole_answer_is_cut_by_closing(simulator: SimulatorServer) -> None:
    answer = plain(simulator, "cut")
    assert answer.ending == "closed"
    assert len(answer.body) == int(answer.headers["content-length"]) // 2


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (CHAT, chat("sim-gpt+text+miderror=4", stream=True), "server_error"),
        (MESSAGES, claude("sim-claude+text+miderror=4", stream=True), "overloaded_error"),
        (RESPONSES, {"model": "sim-gpt+text+miderror=4", "input": "x", "stream": True}, "error"),
    ],
)
def test_an_error_in_the_middle_of_a_stream(
    simulator: SimulatorServer, path: str, body: Any, kind: str
) -> None:
    answer = ask(simulator.url, path, body)
    assert (answer.status, answer.ending) == (200, "whole")
    last = answer.events()[-1]
    assert kind in (last.get("type"), (last.get("error") or {}).get("type"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_stall_lasts_until_the_caller_goes(
    simulator: SimulatorServer, stream: bool, wait_until: Any
) -> None:
    with Caller(simulator.url) as caller:
        caller.ask(CHAT, chat("sim-gpt+text+tokens=20+stall=3", stream=stream))
        assert caller.head().status == 200
        caller.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            _everything(caller)
        assert simulator.world.answering == 1
    wait_until(
        lambda: not simulator.world.answering, what="the stalled answer ends with its caller"
    )


def _everything(caller: Caller) -> None:
    while caller.socket.recv(65_536):
        pass


# --- pace ----------------------------------------------------------------------------------------


def test_a_slow_first_byte_and_a_drip_move_a_frozen_clock(simulator: SimulatorServer) -> None:
    simulator.world.set_clock(NOON)
    answer = streamed(simulator, "first=30+rate=2")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    passed = (simulator.world.now() - NOON).total_seconds()
    assert 30 + 20 / 2 <= passed <= 30 + 30 / 2


def test_a_rate_is_kept_in_real_time(simulator: SimulatorServer) -> None:
    begun = time.monotonic()
    answer = streamed(simulator, "rate=100")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert time.monotonic() - begun >= 20 / 100


def test_a_caller_who_leaves_a_drip_ends_it(simulator: SimulatorServer, wait_until: Any) -> None:
    with Caller(simulator.url) as caller:
        caller.ask(CHAT, chat("sim-gpt+text+tokens=5000+rate=20", stream=True))
        assert caller.head().status == 200
        assert simulator.world.answering == 1
    wait_until(lambda: not simulator.world.answering, what="the drip ends with its caller")


# --- by header and by schedule -----------------------------------------------------------------


def test_a_header_brings_faults_and_scenarios(simulator: SimulatorServer) -> None:
    headers = {"x-sim-script": "status=503+after=7"}
    answer = ask(simulator.url, CHAT, chat("sim-gpt"), headers=headers)
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    headers = {"x-sim-script": "text+tokens=3"}
    answer = ask(simulator.url, CHAT, chat("sim-gpt"), headers=headers)
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_a_share_of_requests_fails_between_two_moments(simulator: SimulatorServer) -> None:
    simulator.world.set_clock(NOON)
    simulator.control(
        "faults", {"script": "status=529", "share": 0.05, "in_seconds": 180, "for_seconds": 120}
    )

    def failed() -> int:
        with Caller(simulator.url) as caller:
            statuses = []
            for _ in range(400):
                caller.ask(CHAT, chat("sim-gpt"))
                statuses.append(caller.read().status)
        return statuses.count(529)

    assert failed() == 0
    simulator.world.advance(180)
    assert 8 <= failed() <= 36
    simulator.world.advance(120)
    assert failed() == 0


def test_a_schedule_repeats_with_its_seed() -> None:
    def drawn(seed: str) -> list[bool]:
        schedule = schedule_of(World(seed=seed))
        schedule.entries.append(Scheduled({"status": "500"}, share=0.5))
        return [bool(schedule.options(NOON, "openai", "sim-gpt")) for _ in range(64)]

    assert drawn("a") == drawn("a")
    assert drawn("a") != drawn("b")


def test_a_schedule_may_name_vendor_and_model(simulator: SimulatorServer) -> None:
    simulator.control("faults", {"script": "status=500", "vendor": "anthropic"})
    simulator.control("faults", {"script": "status=503", "model": "sim-gpt-mini"})
    assert ask(simulator.url, MESSAGES, claude("sim-claude")).status == 500
    assert ask(simulator.url, CHAT, chat("sim-gpt")).status == 200
    assert ask(simulator.url, CHAT, chat("sim-gpt-mini")).status == 503


def test_faults_hit_what_is_no_conversation_too(simulator: SimulatorServer) -> None:
    body = {"model": "sim-embedding+status=503", "input": "x"}
    assert ask(simulator.url, "/openai/v1/embeddings", body).status == 503
    body = {"model": "sim-embedding+reset", "input": "x"}
    assert ask(simulator.url, "/openai/v1/embeddings", body).ending == "reset"
    simulator.control("faults", {"script": "status=500", "vendor": "openai"})
    assert ask(simulator.url, "/openai/v1/models").status == 500


def test_canned_bytes_are_the_same_and_cost_no_check(simulator: SimulatorServer) -> None:
    body = chat("sim-gpt+text+canned", stream=True)
    first = ask(simulator.url, CHAT, body)
    again = ask(simulator.url, CHAT, {**body, "unheard_of": 1})
    assert again.body == first.body
    assert again.headers["content-type"] == first.headers["content-type"]
    assert simulator.rules() == []
    other = ask(simulator.url, CHAT, chat("sim-gpt+text+canned"))
    assert other.json()["object"] == "chat.completion"


def test_a_canned_answer_can_still_be_broken(simulator: SimulatorServer) -> None:
    assert plain(simulator, "text+canned").status == 200
    assert plain(simulator, "text+canned+status=500").status == 500
    assert plain(simulator, "text+canned+reset").ending == "reset"


@pytest.mark.parametrize("wild", ["status=abc", "status=99", "rate=-1", "rate=nan", "line=1e99x"])
def test_nonsense_counts_as_nothing_said(simulator: SimulatorServer, wild: str) -> None:
    assert plain(simulator, wild).status in (200, 500)


def test_every_fault_is_described() -> None:
    assert all(name.isalpha() and summary for name, summary in FAULTS.items())
