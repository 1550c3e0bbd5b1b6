"""A plain RFC 8628 client, written from the RFC alone: the judge of servers in these tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# Posts a form; gives status and body.
Send = Callable[[str, dict[str, str]], tuple[int, bytes]]


@dataclass
class DeviceClient:
    """`wait` passes the time, however the test does that. `heard` is the whole dialogue:
    a status and what was said, one line each; `gaps` the seconds before each poll."""

    send: Send
    wait: Callable[[float], None]
    client_id: str
    heard: list[tuple[int, str]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def start(self, url: str, scope: str = "") -> dict[str, Any]:
        form = {"client_id": self.client_id, **({"scope": scope} if scope else {})}
        status, answer = self._ask(url, form)
        assert status == 200, answer
        missing = {"device_code", "user_code", "verification_uri", "expires_in"} - set(answer)
        assert not missing, f"RFC 8628, 3.2 requires {missing}"
        return answer

    def poll(self, url: str, started: dict[str, Any]) -> dict[str, Any]:
        """Until the end; the last answer."""
        interval, lasts = float(started.get("interval", 5)), float(started["expires_in"])
        form = {"grant_type": DEVICE_GRANT, "device_code": started["device_code"]}
        while lasts > 0:
            self.wait(interval)
            self.gaps.append(interval)
            lasts -= interval
            status, answer = self._ask(url, {**form, "client_id": self.client_id})
            match answer.get("error"):
                case "slow_down":
                    interval = max(interval + 5, float(answer.get("interval", 0)))
                case "authorization_pending":
                    pass
                case None if status >= 500 or "access_token" not in answer:
                    pass
                case _:
                    return answer
        return {"error": "expired_token"}

    def refresh(self, url: str, token: str) -> dict[str, Any]:
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id}
        return self._ask(url, form)[1]

    def _ask(self, url: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        status, body = self.send(url, form)
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
        said = answer.get("error") or ",".join(sorted({"device_code", "access_token"} & {*answer}))
        self.heard.append((status, said))
        return status, answer
