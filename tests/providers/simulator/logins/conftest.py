"""The login servers without a network: requests straight to the application, time by hand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from providers.simulator.app import SimulatorApplication
from providers.simulator.http import Request
from providers.simulator.world import World
from tests.simulator_server import simulator, simulator_door

__all__ = ["simulator", "simulator_door"]

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOST = "sim.test"
BASE = f"http://{HOST}"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> str:
        """The OAuth error code, or an empty string."""
        error = self.json().get("error", "")
        return error if isinstance(error, str) else error["code"]

    @property
    def query(self) -> dict[str, str]:
        """Of the redirect."""
        parsed = parse_qs(urlsplit(self.headers["location"]).query)
        return {name: values[0] for name, values in parsed.items()}


class Vendors:
    """All login servers in one frozen world."""

    def __init__(self) -> None:
        self.world = World(frozen_at=NOON)
        self.application = SimulatorApplication(self.world)

    def get(self, path: str, **headers: str) -> Reply:
        return self._send("GET", path, b"", headers)

    def form(self, path: str, fields: dict[str, Any], **headers: str) -> Reply:
        body = urlencode(fields).encode()
        return self._send("POST", path, body, {"content_type": FORM} | headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        sent = json.dumps(body).encode()
        return self._send("POST", path, sent, {"content_type": "application/json"} | headers)

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        path, _, query = path.removeprefix(BASE).partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(method, path, {"host": HOST, "user-agent": "tests", **named}, body, query)
        response = asyncio.run(self.application.respond(request))
        assert isinstance(response.body, bytes)
        return Reply(response.status, response.headers, response.body)

    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    # --- the person ---

    def approve(self, user_code: str, account: str = "ada") -> None:
        body = {"user_code": user_code, "account": account}
        reply = self.post("/control/logins/approve", body)
        assert reply.status == 200, reply.text

    def deny(self, user_code: str) -> None:
        reply = self.post("/control/logins/deny", {"user_code": user_code})
        assert reply.status == 200, reply.text

    def script(self, user_code: str, *answers: str) -> None:
        body = {"user_code": user_code, "answers": answers}
        reply = self.post("/control/logins/script", body)
        assert reply.status == 200, reply.text

    def authorize(self, path: str, query: dict[str, str], account: str = "ada") -> Reply:
        """Open an authorize page and press Approve; the redirect that follows."""
        url = f"{path}?{urlencode(query)}"
        page = self.get(url)
        assert page.status == 200, page.text
        login = page.text.partition('name="login" value="')[2].partition('"')[0]
        return self.form(url, {"login": login, "account": account, "decision": "approve"})

    def rules(self, vendor: str = "") -> list[str]:
        """The rules broken so far."""
        return [v.rule for v in self.world.violations if vendor in ("", v.vendor)]


@pytest.fixture
def vendors() -> Vendors:
    return Vendors()
