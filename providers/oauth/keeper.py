"""Logins as a gateway uses them: a token that works, by one renewal for all who wait for it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from django.db import DatabaseError

from controlplane.kit import clock
from controlplane.kit.database_threads import DatabaseThreads
from controlplane.kit.secret import Secret
from providers.oauth import quota, verdicts
from providers.oauth.refresh import Held, LoginUnusable, ensure_fresh
from tenants import scope
from tenants.audit.actor import acting_as

log = logging.getLogger(__name__)

_NOTED_EVERY_SECONDS: Final = 60.0
_MOST_NOTED: Final = 5_000


class LoginKeeper:
    """Renewals have threads of their own: a login server that hangs must not hold up those that
    read keys and routes."""

    def __init__(self) -> None:
        self._threads: Final = DatabaseThreads()
        self._running: dict[str, asyncio.Task[Held]] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._noted: dict[str, float] = {}

    async def fresh(self, credential_id: str, refused: Secret | None = None) -> Held:
        """Raises LoginUnusable. A caller who hangs up does not stop the renewal."""
        task = self._running.get(credential_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._renew(credential_id, refused))
            self._running[credential_id] = task
            task.add_done_callback(lambda _: self._running.pop(credential_id, None))
        return await asyncio.shield(task)

    async def _renew(self, credential_id: str, refused: Secret | None) -> Held:
        return await self._threads.run(_fresh, credential_id, refused)

    async def is_worth_another_try(
        self, credential_id: str, refused: Secret, status: int, body: bytes
    ) -> bool:
        """After a vendor's 401 or 403: whether a renewal brought another token."""
        verdict = verdicts.verdict_of(status, body)
        if verdict.action == "none":
            return False
        await self._threads.run(verdicts.note, credential_id, verdict)
        if verdict.action != "renew":
            return False
        try:
            return (await self.fresh(credential_id, refused)).token != refused
        except LoginUnusable:
            # The vendor's own refusal is what the caller gets to see.
            return False

    def used_up(self, credential_id: str) -> None:
        """A vendor answered that nothing is left. Noted beside the request, once in a while."""
        now = time.monotonic()
        if now - self._noted.get(credential_id, float("-inf")) < _NOTED_EVERY_SECONDS:
            return
        if len(self._noted) >= _MOST_NOTED:
            self._noted.clear()
        self._noted[credential_id] = now
        task = asyncio.get_running_loop().create_task(self._look_at_quota(credential_id))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look_at_quota(self, credential_id: str) -> None:
        try:
            await self._threads.run(_used_up, credential_id)
        except DatabaseError:
            # The schedule looks by itself; what matters is the answer that is under way.
            log.warning("A used-up quota was not noted: %s", credential_id)

    def close(self) -> None:
        self._threads.close()


def _used_up(credential_id: str) -> None:
    with scope.platform("a quota that is used up"), acting_as("system", None, "proxy"):
        quota.look_soon(credential_id, now=clock.now())


def _fresh(credential_id: str, refused: Secret | None) -> Held:
    return ensure_fresh(credential_id, refused=refused)
