"""A fixture for tests whose clients are many and speak http:// only.

A conftest imports it (`from tests.one_trust_store import one_trust_store`).
"""

from __future__ import annotations

import functools
import ssl

import pytest

_shared_context = functools.cache(ssl.create_default_context)


@pytest.fixture(autouse=True)
def one_trust_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client that an SDK or httpx makes loads all certificates of the system, whatever its
    address: 20 ms of CPU, more than most tests need for everything else. Here it is done once."""
    monkeypatch.setattr(ssl, "create_default_context", _shared_context)
