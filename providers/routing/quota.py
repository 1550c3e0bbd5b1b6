"""What a subscription has left, as its vendor said last: an order, never a refusal. Such figures
are late and sometimes of something else, so a used-up one is asked last, not never. Pure."""

from __future__ import annotations

from providers.routing.table import CredentialRef, Target


def is_used_up(ref: CredentialRef, now: float) -> bool:
    return ref.quota_used_up_until > now


def weight_of(ref: CredentialRef) -> int:
    """Whoever has more left serves more, so that all last until their reset."""
    return ref.weight * max(1, round(100 * ref.quota_share))


def used_up_last(targets: list[Target], now: float) -> list[Target]:
    """Behind all others whoever has only credentials that are used up."""
    return sorted(targets, key=lambda target: _has_none_left(target.endpoint.credentials, now))


def _has_none_left(refs: tuple[CredentialRef, ...], now: float) -> bool:
    return bool(refs) and all(is_used_up(ref, now) for ref in refs)
