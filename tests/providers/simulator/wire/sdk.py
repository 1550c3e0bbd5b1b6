"""The vendors' own clients, pointed at the simulator. They retry nothing, so that errors show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anthropic
import httpx
import httpx2
import openai

from tests.simulator_server import SimulatorServer

# Status of the answer -> what the OpenAI client raises; the Anthropic client names them alike.
ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "InternalServerError",
    529: "InternalServerError",
}


@contextmanager
def openai_client(
    simulator: SimulatorServer, base: str = "/openai/v1", key: str = "sk-test"
) -> Iterator[openai.OpenAI]:
    # Nothing is encrypted here, and reading the system's certificates takes a tenth of a second.
    http = httpx.Client(verify=False, timeout=20)
    with openai.OpenAI(
        base_url=f"{simulator.url}{base}", api_key=key, max_retries=0, http_client=http
    ) as client:
        yield client


@contextmanager
def anthropic_client(
    simulator: SimulatorServer, key: str = "sk-test"
) -> Iterator[anthropic.Anthropic]:
    http = httpx2.Client(verify=False, timeout=20)
    with anthropic.Anthropic(
        base_url=f"{simulator.url}/anthropic", api_key=key, max_retries=0, http_client=http
    ) as client:
        yield client
