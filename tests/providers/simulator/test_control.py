"""The switchboard: what arrived, what was wrong, the clock, keys and outages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.providers.simulator.raw_http import ask, chat
from tests.simulator_server import SimulatorServer

CHAT = "/openai/v1/chat/completions"


def control(simulator: SimulatorServer, path: str, body: Any = None, method: str = "") -> Any:
    return ask(simulator.url, f"/control{path}", body, method=method)


def test_it_explains_itself(simulator: SimulatorServer) -> None:
    paths = control(simulator, "").json()
    assert all(path.split(" ")[1].startswith("/control/") for path in paths)
    known = control(simulator, "/scenarios").json()
    assert {"tools", "unicode"} <= set(known["scenarios"])
    assert {"reset", "badgzip"} <= set(known["faults"])


def test_an_unknown_path_lists_those_that_are(simulator: SimulatorServer) -> None:
    answer = control(simulator, "/nothing")
    assert answer.status == 404
    assert "GET /control/violations?vendor=" in answer.json()["paths"]


def test_requests_show_what_arrived_with_secrets_masked(simulator: SimulatorServer) -> None:
    secret = "sk-very-secret-0123456789"
    headers = {"authorization": f"Bearer {secret}", "x-api-key": secret, "cookie": secret}
    body = chat("sim-gpt", user="someone", metadata={"api_key": secret})
    ask(simulator.url, f"{CHAT}?key={secret}&a=b", body, headers=headers)
    (seen,) = control(simulator, "/requests").json()["requests"]
    assert secret not in json.dumps(seen)
    assert (seen["vendor"], seen["method"], seen["path"]) == ("openai", "POST", CHAT)
    assert seen["query"] == "key=…&a=b"
    assert json.loads(seen["body"])["user"] == "someone"
    # Enough is left to tell two keys apart.
    assert seen["headers"]["x-api-key"] != seen["headers"]["authorization"]
    assert secret not in repr(simulator.world.requests)


def test_requests_are_found_by_vendor_number_and_count(simulator: SimulatorServer) -> None:
    for _ in range(3):
        ask(simulator.url, CHAT, chat("sim-gpt"))
    ask(simulator.url, "/anthropic/v1/models")

    def numbers(query: str) -> list[int]:
        found = control(simulator, f"/requests?{query}").json()["requests"]
        return [request["number"] for request in found]

    assert numbers("") == [1, 2, 3, 4]
    assert numbers("vendor=anthropic") == [4]
    assert numbers("since=2") == [3, 4]
    assert numbers("limit=1") == [4]


def test_violations_are_found_by_vendor(simulator: SimulatorServer) -> None:
    ask(simulator.url, CHAT, chat("sim-gpt", unheard_of=1))
    ask(simulator.url, "/anthropic/v1/messages", chat("sim-claude"))
    found = control(simulator, "/violations?vendor=openai").json()["violations"]
    assert [(v["vendor"], v["rule"]) for v in found] == [("openai", "unknown_field")]
    assert "unheard_of" in found[0]["detail"]
    assert len(control(simulator, "/violations").json()["violations"]) == 2


def test_the_clock_is_set_moved_and_let_go(simulator: SimulatorServer) -> None:
    answer = control(simulator, "/clock", {"at": "2026-01-01T00:00:00"}).json()
    assert answer["now"] == "2026-01-01T00:00:00Z"
    control(simulator, "/clock", {"advance_seconds": 90})
    answer = control(simulator, "/clock").json()
    assert answer == {"now": "2026-01-01T00:01:30Z", "is_frozen": True, "speed": 1.0}
    answer = control(simulator, "/clock", {}).json()
    assert abs(datetime.fromisoformat(answer["now"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_key_works_only_between_two_moments(simulator: SimulatorServer) -> None:
    control(simulator, "/clock", {"at": "2026-01-01T00:00:00Z"})
    window = {"from": "2026-01-01T01:00:00Z", "until": "2026-01-01T02:00:00Z"}
    control(simulator, "/keys", {"key": "sk-windowed", **window})
    headers = {"authorization": "Bearer sk-windowed"}

    def status() -> int:
        return ask(simulator.url, CHAT, chat("sim-gpt"), headers=headers).status

    seen = [status()]
    for _ in range(3):
        control(simulator, "/clock", {"advance_seconds": 3599})
        seen.append(status())
        control(simulator, "/clock", {"advance_seconds": 1})
        seen.append(status())
    assert seen == [401, 401, 200, 200, 401, 401, 401]
    assert ask(simulator.url, CHAT, chat("sim-gpt")).status == 200
    (shown,) = control(simulator, "/keys").json()["keys"]
    assert shown["works"] is False
    assert "sk-windowed" not in json.dumps(shown)


def test_a_key_may_be_answered_with_another_status(simulator: SimulatorServer) -> None:
    control(simulator, "/keys", {"key": "sk-test", "until": "2020-01-01T00:00:00Z", "status": 403})
    answer = ask(simulator.url, "/anthropic/v1/models")
    assert (answer.status, answer.json()["error"]["type"]) == (403, "permission_error")


@pytest.mark.parametrize("authorization", ["", "Bearer wrong-key", "Basic c2s6"])
def test_missing_and_wrong_keys_are_refused(simulator: SimulatorServer, authorization: str) -> None:
    headers = {"authorization": authorization}
    for path in (CHAT, "/openai/v1/responses", "/openai/v1/embeddings", "/anthropic/v1/messages"):
        answer = ask(simulator.url, path, chat("sim-gpt"), headers=headers)
        assert answer.status == 401, path


def test_scheduled_faults_are_shown_and_ended(simulator: SimulatorServer) -> None:
    control(simulator, "/faults", {"script": "status=500+after=3", "vendor": "openai"})
    (shown,) = control(simulator, "/faults").json()["faults"]
    assert shown["options"] == {"status": "500", "after": "3"}
    assert ask(simulator.url, CHAT, chat("sim-gpt")).status == 500
    control(simulator, "/faults", method="DELETE")
    assert ask(simulator.url, CHAT, chat("sim-gpt")).status == 200


def test_a_day_is_played_over_the_api(simulator: SimulatorServer) -> None:
    events = [{"at": "1h", "for": "30m", "fault": "status=529", "vendor": "anthropic"}]
    day = {"clock": "2026-01-01T08:00:00Z", "events": events}
    answer = control(simulator, "/day", day).json()
    assert answer == {"begins_at": answer["begins_at"], "scheduled": 1}
    assert answer["begins_at"].startswith("2026-01-01T08:00:00")
    simulator.world.advance(3600)
    assert ask(simulator.url, "/anthropic/v1/models").status == 529


def test_reset_forgets_everything(simulator: SimulatorServer) -> None:
    control(simulator, "/clock", {"at": "2026-01-01T00:00:00Z"})
    control(simulator, "/faults", {"script": "status=500"})
    control(simulator, "/keys", {"key": "sk-test", "until": "2020-01-01"})
    ask(simulator.url, CHAT, chat("sim-gpt", unheard_of=1))
    control(simulator, "/reset", {})
    assert control(simulator, "/requests").json() == {"requests": []}
    assert control(simulator, "/violations").json() == {"violations": []}
    assert control(simulator, "/clock").json()["is_frozen"] is False
    assert ask(simulator.url, CHAT, chat("sim-gpt")).status == 200


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/clock", {"at": "yesterday"}, "is no time"),
        ("/clock", {"at": 5}, "is no time"),
        ("/clock", {"advance_seconds": "soon"}, "soon"),
        ("/clock", {"advance_seconds": 1e300}, "calendar"),
        ("/clock", {"advance_seconds": "nan"}, ""),
        ("/clock", b"{", "send JSON"),
        ("/clock", [], "send a JSON object"),
        ("/faults", {}, "'script' is missing"),
        ("/faults", {"script": "statsu=500"}, "'statsu' is unknown"),
        ("/faults", {"script": "status=500", "share": 7}, "between 0 and 1"),
        ("/faults", {"script": "status=500", "in_seconds": 1e300}, ""),
        ("/keys", {}, "'key' is missing"),
        ("/keys", {"key": "k", "status": 200}, "between 400 and 599"),
        ("/keys", {"key": "k", "from": "9999-12-31T23:59:59Z"}, "year"),
        ("/day", {"events": []}, "events"),
    ],
)
def test_bad_input_is_answered_with_what_to_send(
    simulator: SimulatorServer, path: str, body: Any, words: str
) -> None:
    answer = control(simulator, path, body)
    assert answer.status == 400
    assert words in answer.json()["error"]
    assert answer.json()["paths"]
    assert ask(simulator.url, CHAT, chat("sim-gpt")).status == 200
