"""What wraps data keys: one small interface, three ways to keep it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeyContext:
    """Whose data key is wrapped: bound into the wrapping, so that rows cannot be swapped."""

    key_id: uuid.UUID
    tenant_id: uuid.UUID | None

    def as_text(self) -> dict[str, str]:
        return {
            "purpose": "provider-control-plane data key",
            "data_key": str(self.key_id),
            "tenant": str(self.tenant_id or "platform"),
        }

    def as_bytes(self) -> bytes:
        # Fixed order and no separators inside the values (UUIDs and our own words).
        return "\n".join(f"{name}={value}" for name, value in self.as_text().items()).encode()


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A wrapped data key and which wrapping key did it: `<scheme>:<key>[:version]`."""

    wrapped_by: str
    blob: bytes


class KeyProvider(Protocol):
    """Holds the keys that wrap data keys. Never hands them out.

    Every method may raise KeyRingProblem (missing, wrong, not configured) and, where the
    keys live elsewhere, KeyServiceUnavailable.
    """

    def current(self) -> str:
        """The `wrapped_by` that wrap() gives now. Raises when there is no usable key."""
        ...

    def wrap(self, key: bytes, context: KeyContext) -> Wrapped: ...

    def unwrap(self, wrapped: Wrapped, context: KeyContext) -> bytes: ...
