"""Both servers that `manage.py serve` knows, as processes: chat, stream, a caller who leaves, and
the limit of a body. What the gateway does in them is the same; how they hand it over is not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from providers.simulator.world import World
from tests import migrated
from tests.controlplane.supervisor.conftest import ROOT, Running

BODY_LIMIT: Final = 200_000
# Generous: machines that run tests are busy with other things too.
PATIENCE: Final = 120.0
_REGISTER: Final = """
import sys, django
django.setup()
from django.core.management import call_command
from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant
call_command("vault", "init", stdout=sys.stderr)
with acting_as("command", None, "tests"), scope.platform("tests"):
    vendors = services.register(
        slug="vendors", catalog_id="simulator", endpoint={"origin": sys.argv[1]}
    )
    store_key(provider=vendors, label="one", secret=Secret("sim-vendor-key"))
    tenant = Tenant.objects.create(slug="acme", name="Acme")
    print(create_key(tenant=tenant, label="acme")[1].reveal())
"""


@dataclass
class Served:
    url: str
    key: str

    def ask(self, model: str, *, stream: bool = False, text: str = "Hello") -> dict[str, Any]:
        body = {
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": text}],
        }
        return {
            "url": f"{self.url}/v1/chat/completions",
            "headers": {"Authorization": f"Bearer {self.key}"},
            "json": body,
            "timeout": PATIENCE,
        }


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, simulated: tuple[str, World], django_db_setup: None
) -> tuple[dict[str, str], str]:
    """An environment with a database of its own, and a key that is known there."""
    folder = tmp_path_factory.mktemp("servers")
    folder.chmod(0o700)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "controlplane.settings.local",
        "STATE_DIR": str(folder),
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "SIMULATOR": "no",
        "UPSTREAM_ALLOWED_NETWORKS": "127.0.0.0/8",
        "PROXY_BODY_LIMIT_BYTES": str(BODY_LIMIT),
        "LOG_FORMAT": "json",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    migrated.make_sqlite(folder / "control-plane.sqlite3")
    return environment, run("-c", _REGISTER, simulated[0]).strip()


@pytest.fixture(scope="module", params=["uvicorn", "granian"])
def gateway(request: pytest.FixtureRequest, home: tuple[dict[str, str], str]) -> Iterator[Served]:
    environment, key = home
    running = Running(
        [sys.executable, "manage.py", "serve", "--port", "0", "--server", request.param],
        environment,
    )
    try:
        yield Served(running.line(r"Ready on (http://\S+)", seconds=PATIENCE)[1], key)
    finally:
        running.end()


def test_a_chat_is_answered(gateway: Served) -> None:
    answer = httpx.post(**gateway.ask("sim-gpt"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-request-id"]


def test_a_stream_comes_in_pieces_and_ends_whole(gateway: Served) -> None:
    with httpx.stream("POST", **gateway.ask("sim-gpt+text+tokens=8+rate=50", stream=True)) as got:
        assert got.status_code == 200
        assert got.headers["content-type"].startswith("text/event-stream")
        text = "".join(got.iter_text())
    events = re.findall(r"^data: (.*)$", text, re.MULTILINE)
    assert events[-1] == "[DONE]"
    assert len(events) > 8
    assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in events[:-1])


def test_who_leaves_is_noticed_upstream(
    gateway: Served, simulated: tuple[str, World], wait_until: Callable[..., Any]
) -> None:
    world = simulated[1]
    asked = gateway.ask("sim-gpt+text+tokens=20000+rate=20", stream=True)
    with httpx.stream("POST", **asked) as got:
        next(got.iter_text())
        # On a busy machine the first text may be the gateway's sign of life.
        wait_until(lambda: world.answering, seconds=PATIENCE, what="the vendor's stream began")
    wait_until(lambda: not world.answering, seconds=PATIENCE, what="the vendor's stream ended")
    assert httpx.post(**gateway.ask("sim-gpt")).status_code == 200


def test_a_body_beyond_the_limit_is_refused(gateway: Served) -> None:
    at_most = httpx.post(**gateway.ask("sim-gpt", text="a" * (BODY_LIMIT - 200)))
    assert at_most.status_code == 200, at_most.text
    beyond = httpx.post(**gateway.ask("sim-gpt", text="a" * BODY_LIMIT))
    assert beyond.status_code == 413
    assert beyond.json()["error"]["code"] == "request_too_large"


def test_a_body_without_a_length_is_counted(gateway: Served) -> None:
    """Chunked: no header says beforehand how much will come."""
    asked = gateway.ask("sim-gpt")
    sent = asked.pop("json")
    sent["messages"][0]["content"] = "a" * BODY_LIMIT
    beyond = httpx.post(**asked, content=iter([json.dumps(sent).encode()]))
    assert beyond.status_code == 413
