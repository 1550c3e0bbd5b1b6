"""Bar I1 at the proxy: whatever a caller sends as a body, the answer is no 5xx and nothing goes
uncaught. In process: the vendor behind always answers, so that every fault would be ours."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from controlplane.proxy import pipeline
from controlplane.proxy.errors import DoorError
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.routes import match
from controlplane.proxy.state import GatewayState
from tests.security.arena import new_tenant
from tests.security.dialects import DIALECTS, Dialect
from tests.security.odd_bodies import odd_body

# The dialect's own vendor, to which bytes are passed on, and others, for which they are read.
VENDORS = ("sim-gpt", "sim-gpt-responses", "sim-claude", "sim-gemini", "sim-nova", "sim-mistral")


class Canned:
    """Stands where an UpstreamResponse stands."""

    status = 200
    headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self, limit: int = 0) -> bytes:
        body, self._body = self._body, b""
        return body

    async def chunk(self) -> bytes:
        return await self.read()

    def close(self) -> None:
        """Nothing is open."""


class Always:
    """Stands where the pool of clients stands: says again what a vendor said to a right request,
    whatever it is asked later."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._said: dict[tuple[str, str], bytes] = {}
        self.is_learning = True

    def of(self, *trust: Any) -> Always:
        self._client = self._real.of(*trust)
        return self

    async def send(self, method: str, url: str, *, headers: Any, body: bytes, **more: Any) -> Any:
        asked = (url, headers["Accept"])
        if self.is_learning:
            answer = await self._client.send(method, url, headers=headers, body=body, **more)
            assert answer.status == 200
            self._said[asked] = await answer.read()
            answer.close()
        return Canned(self._said[asked])

    async def close(self) -> None:
        await self._real.close()


class Caller:
    """Somebody with a good key, in front of the pipeline itself."""

    def __init__(self, key: str, state: GatewayState) -> None:
        self._headers = [(b"authorization", f"Bearer {key}".encode())]
        self._state = state

    async def ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and everything that was sent. Raises what went uncaught."""
        path, _, query = path.partition("?")
        found = match("POST", path)
        assert found is not None
        assert found.route is not None
        exchange = Exchange(
            route=found.route,
            request_id="fuzz",
            method="POST",
            path=path,
            query=query.encode(),
            headers=self._headers,
            address="127.0.0.1",
            body=body,
            model=found.model,
            stream=found.stream,
        )
        answer = await pipeline.serve(exchange, self._state)
        sent = answer.body
        if answer.stream is not None:
            sent = b"".join([piece async for piece in answer.stream])
        return answer.status, sent


async def fuzz(
    key: str, dialect: Dialect, count: int, seed: int
) -> tuple[Counter[int], list[tuple[str, bytes]]]:
    state = GatewayState()
    await state.start()
    state.clients = always = Always(state.clients)  # type: ignore[assignment]  # stands for it
    caller = Caller(key, state)
    statuses: Counter[int] = Counter()
    wrong: list[tuple[str, bytes]] = []
    try:
        for model in VENDORS:
            for stream in (False, True):
                path, body = dialect.ask(model, stream=stream)
                status, said = await caller.ask(path, json.dumps(body).encode())
                assert status == 200, said
        always.is_learning = False
        rng = random.Random(seed)
        for number in range(count):
            model = VENDORS[number % len(VENDORS)]
            path, _ = dialect.ask(model, stream=rng.random() < 0.5)
            body = odd_body(dialect.name, model, rng)
            try:
                status, said = await caller.ask(path, body)
            except Exception as error:  # noqa: BLE001  (whatever comes out is what is looked for)
                wrong.append((f"{path} {type(error).__name__}: {error}"[:300], body[:3000]))
                continue
            statuses[status] += 1
            if status >= 500:
                wrong.append((f"{path} {status} {said[:200]!r}", body[:3000]))
            elif status >= 400:
                dialect.check_error(json.loads(said), status)
    finally:
        await state.stop()
    return statuses, wrong


def holds(dialect: Dialect, count: int, seed: int) -> None:
    _, key = new_tenant(f"Fuzz {dialect.name}")
    statuses, wrong = asyncio.run(fuzz(key, dialect, count, seed))
    kinds = Counter(what.partition(" ")[2][:120] for what, _ in wrong)
    assert not wrong, f"{len(wrong)}: {kinds.most_common(10)}; first: {wrong[0]}"
    # The bodies are odd, and not all so odd that nothing behind the door was reached.
    assert statuses[200] > count / 10, statuses
    assert statuses[400] > count / 10, statuses


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_thousand_odd_bodies(vendors: object, dialect: Dialect) -> None:
    holds(dialect, 1_000, seed=21)


@pytest.mark.soak
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_hundred_thousand_odd_bodies(vendors: object, dialect: Dialect) -> None:
    # Others in each run: what it finds is in the message, ready to become a case of its own.
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    holds(dialect, 100_000, seed)


def test_every_refusal_of_the_door_is_the_callers_or_passes() -> None:
    """No error that the door raises about a request says 500."""
    for leaf in DoorError.__subclasses__():
        assert leaf("why").fault().http_status in {*range(400, 500), 503}, leaf
