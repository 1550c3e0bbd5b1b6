"""The same plain client hears the same from django-oauth-toolkit and from the simulation.

So that not only our own server judges what a device login sounds like.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.providers.simulator.logins.conftest import NOON
from tests.providers.simulator.logins.device_client import DEVICE_GRANT, DeviceClient
from tests.simulator_server import SimulatorServer

PENDING = (400, "authorization_pending")
STARTED = (200, "device_code")
TOLD = (200, "access_token")


@dataclass
class Server:
    """One of the two: where it answers, how its time passes, how its person decides."""

    device: str
    token: str
    wait: Callable[[float], None]
    decide: Callable[[str, str], None]


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = Path(__file__).with_name("toolkit_server.py")
    folder = tmp_path_factory.mktemp("toolkit")
    process = subprocess.Popen(
        [sys.executable, str(program), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        # Ends at once when the program fails: its output closes.
        url = process.stdout.readline().strip()
        if not url:
            raise AssertionError(process.communicate()[1])

        def decide(decision: str, user_code: str) -> None:
            httpx.get(f"{url}/person/{decision}/{user_code}").raise_for_status()

        # It does not hold devices to their interval, so no time has to pass for real.
        yield Server(
            f"{url}/o/device-authorization/", f"{url}/o/token/", lambda seconds: None, decide
        )
    finally:
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.fixture
def simulated(simulator: SimulatorServer) -> Server:
    simulator.world.set_clock(NOON)

    def decide(decision: str, user_code: str) -> None:
        if decision == "expire":
            simulator.world.advance(86_400)
        else:
            simulator.control(f"logins/{decision}", {"user_code": user_code})

    url = f"{simulator.url}/rfc8628"
    return Server(f"{url}/device_authorization", f"{url}/token", simulator.world.advance, decide)


@pytest.fixture(params=["toolkit", "simulated"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def send(url: str, form: dict[str, str]) -> tuple[int, bytes]:
    answer = httpx.post(url, data=form)
    assert answer.headers["content-type"].startswith("application/json")
    return answer.status_code, answer.content


def client_of(server: Server, client_id: str = "simulated-client") -> DeviceClient:
    return DeviceClient(send, server.wait, client_id)


def story(
    server: Server, decision: str, polls: int, client_id: str = "simulated-client"
) -> tuple[DeviceClient, dict[str, Any]]:
    """A sign-in whose person decides before poll number `polls` + 1, if it gets so far."""
    client = client_of(server, client_id)
    try:
        started = client.start(server.device, "openid models")
    except AssertionError:
        return client, {}
    pass_time = server.wait

    def wait(seconds: float) -> None:
        pass_time(seconds)
        if len(client.gaps) == polls:
            server.decide(decision, started["user_code"])

    client.wait = wait
    return client, client.poll(server.token, started) | {"device_code": started["device_code"]}


def test_pending_then_approved(server: Server) -> None:
    client, answer = story(server, "approve", 2)
    assert client.heard == [STARTED, PENDING, PENDING, TOLD]
    assert client.gaps == [5, 5, 5]
    assert answer["token_type"] == "Bearer"
    assert {*answer["scope"].split()} == {"openid", "models"}
    assert answer["expires_in"] > 0
    assert answer["refresh_token"]


def test_denied(server: Server) -> None:
    client, _ = story(server, "deny", 1)
    assert client.heard == [STARTED, PENDING, (400, "access_denied")]


def test_expired(server: Server) -> None:
    client, _ = story(server, "expire", 1)
    assert client.heard == [STARTED, PENDING, (400, "expired_token")]


def test_a_refresh_token_used_twice_ends_all(server: Server) -> None:
    client, first = story(server, "approve", 0)
    second = client.refresh(server.token, first["refresh_token"])
    assert second["refresh_token"] != first["refresh_token"]
    client.refresh(server.token, first["refresh_token"])
    client.refresh(server.token, second["refresh_token"])
    assert client.heard[2:] == [TOLD, (400, "invalid_grant"), (400, "invalid_grant")]


def test_an_unknown_device_code_is_no_sign_in(server: Server) -> None:
    """RFC 8628 names no error for it: both refuse, each with its own."""
    form = {
        "grant_type": DEVICE_GRANT,
        "device_code": "never-issued",
        "client_id": "simulated-client",
    }
    status, _ = send(server.token, form)
    assert 400 <= status < 500


def test_a_client_without_the_grant(server: Server) -> None:
    """The toolkit says so when the token is asked for, the simulation at once."""
    client, answer = story(server, "approve", 0, "simulated-browser-only")
    assert client.heard[-1] == (400, "unauthorized_client")
    assert "access_token" not in answer


def test_a_stranger(server: Server) -> None:
    client, answer = story(server, "approve", 0, "stranger")
    ((status, said),) = client.heard
    assert status in (400, 401)
    assert said.startswith("invalid_")
    assert answer == {}
