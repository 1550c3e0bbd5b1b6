"""Who acts. Set once where the work begins, read by every audit event it writes.

    with acting_as(Kind.USER, user.pk, user.email, address): ...

The actor lives in a context variable, as the tenant scope does. There is no default: work
that nobody answers for cannot be recorded, and what cannot be recorded does not happen.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

from tenants.errors import TenantError


class NoActor(TenantError):
    """A change was made outside acting_as(): our bug, never the caller's."""

    code = "no_actor"


class Kind(StrEnum):
    USER = "user"  # a person, signed in
    KEY = "key"  # an API key
    SYSTEM = "system"  # the background process, for nobody in particular
    COMMAND = "command"  # somebody with a shell: `manage.py …`
    ANONYMOUS = "anonymous"  # nobody is signed in (yet)


@dataclass(frozen=True, slots=True)
class Actor:
    """`id` is the user's or key's primary key, empty for the others; `label` is what people
    call them; `address` is where the request came from, empty where there was none."""

    kind: Kind
    id: str
    label: str
    address: str


_current: ContextVar[Actor | None] = ContextVar("audit_actor", default=None)


def current_actor() -> Actor:
    """Raises NoActor where there is none."""
    actor = _current.get()
    if actor is None:
        raise NoActor(
            "A change was recorded with nobody acting. Wrap the work in "
            "tenants.audit.actor.acting_as(…)."
        )
    return actor


@contextlib.contextmanager
def acting_as(
    kind: Kind | str, actor_id: uuid.UUID | str | None, label: str, address: str = ""
) -> Iterator[Actor]:
    actor = Actor(Kind(kind), "" if actor_id is None else str(actor_id), label, address)
    token = _current.set(actor)
    try:
        yield actor
    finally:
        _current.reset(token)
