"""What a subscription has left, as its vendor said last: an order, never a refusal. Such figures
are late and sometimes of something else, so a used-up one is asked last, not never. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from providers.routing.table import CredentialRef, ModelQuota, Target

_WORD: Final = re.compile(r"[a-z0-9]+")


def words_of(name: str) -> tuple[str, ...]:
    """claude-opus-4.5 -> claude, opus, 4, 5."""
    return tuple(_WORD.findall(name.lower()))


def for_model(ref: CredentialRef, model: str) -> CredentialRef:
    """The credential as this model finds it: the emptiest of the windows that hold for it."""
    mine = [quota for quota in ref.model_quotas if _holds_for(quota, model)]
    if not mine:
        return ref
    return msgspec.structs.replace(
        ref,
        quota_share=min(ref.quota_share, *(quota.share for quota in mine)),
        quota_used_up_until=max(ref.quota_used_up_until, *(quota.used_up_until for quota in mine)),
    )


def _holds_for(quota: ModelQuota, model: str) -> bool:
    if quota.model:
        return quota.model == model
    return bool(quota.family) and set(quota.family) <= set(words_of(model))


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
