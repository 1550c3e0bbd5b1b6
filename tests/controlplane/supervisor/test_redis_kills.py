"""Bar R6 to the letter, with callers that never stop: Redis is killed four times and then stays
away. Nobody gets an error because of it, and nobody is let in beyond the limit."""

from __future__ import annotations

import collections
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests import ports
from tests.patience import LONG_SECONDS

from .conftest import Home, Start
from .test_scale import Broker, broker

__all__ = ["broker"]

pytestmark = [pytest.mark.soak, pytest.mark.storage]

CALLERS = 16
LIMIT = 20_000
KILLS = 4
AWAY_SECONDS = 30.0

LIMITED = f"""
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant
from tenants.quotas.services import create_limit
with acting_as("command", None, "tests"), scope.platform("tests"):
    tenant = Tenant.objects.get(slug="demo")
    create_limit(tenant=tenant, is_platform_set=True, scope_kind="tenant", kind="requests",
                 period="total", amount={LIMIT}, mode="enforce")
"""
TOLD = """
from tenants import scope
from tenants.usage.models import UsageEvent
from tenants.usage.verify import verify
from tenants.members.models import Tenant
with scope.platform("tests"):
    tenant = Tenant.objects.get(slug="demo")
    print("TOLD", UsageEvent.objects.count())
print("FINDINGS", len(verify(tenant_id=tenant.id).findings))
"""


def test_redis_is_killed_under_traffic(
    stored_home: Home, start: Start, broker: Broker, wait_until: Callable[..., Any]
) -> None:
    stored_home.environment["DJANGO_SETTINGS_MODULE"] = "controlplane.settings.local"
    port = ports.unused()
    once = start(
        *("manage.py", "first_run", "--serve", "--port", str(port)),
        environment=stored_home.environment,
    )
    key = once.line(r"Key +(pcp_live_\w+)")[1]
    once.line(r"Ctrl-C stops")
    once.signal(signal.SIGTERM)
    assert once.exit_code() == 0
    stored_home.manage("shell", "-v", "0", "-c", LIMITED)

    stored_home.environment["REDIS_URL"] = f"redis://127.0.0.1:{broker.port}/0"
    running = start(
        *("manage.py", "serve", "--workers", "2", "--port", str(port)),
        environment=stored_home.environment,
    )
    url = running.line(r"Ready on (http://\S+)")[1]
    statuses: collections.Counter[int] = collections.Counter()
    over = threading.Event()

    def call() -> None:
        body = {"model": "sim-gpt", "messages": [{"role": "user", "content": "Hello"}]}
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}) as client:
            while not over.is_set():
                answer = client.post(f"{url}/v1/chat/completions", json=body)
                statuses[answer.status_code] += 1

    def asked_more(count: int = 200) -> None:
        before = statuses.total()
        wait_until(lambda: statuses.total() >= before + count, what="callers are answered")

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(call) for _ in range(CALLERS)]
        try:
            for _ in range(KILLS):
                asked_more()
                broker.kill()
                asked_more()
                broker.start()
                wait_until(broker.answers, what="Redis is back")
            asked_more()
            broker.kill()
            gone = time.monotonic()
            wait_until(
                lambda: time.monotonic() - gone > AWAY_SECONDS,
                seconds=LONG_SECONDS,
                what="it stayed away",
            )
            asked_more()
            broker.start()
            wait_until(broker.answers, what="Redis is back")
            wait_until(lambda: statuses[429] > 500, seconds=600, what="the limit is used up")
        finally:
            over.set()
    for caller in callers:
        caller.result()
    running.signal(signal.SIGTERM)
    assert running.exit_code() == 0
    told = stored_home.manage("shell", "-v", "0", "-c", TOLD)
    print(dict(statuses), told)
    assert set(statuses) == {200, 429}, statuses
    assert statuses[200] == LIMIT
    assert re.search(rf"TOLD {LIMIT}\b", told)
    assert "FINDINGS 0" in told
