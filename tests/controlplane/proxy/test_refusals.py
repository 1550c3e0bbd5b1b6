"""Every word that routing refuses with is stable, has a sentence, and stands on its page."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.proxy import choosing, errors, own_key, shedding
from controlplane.proxy.errors import DoorError
from providers.routing.needs import BITS, REASONING
from providers.routing.plan import Rejected
from tests.providers.routing.made import target

DOCS = Path(__file__).parents[3] / "docs"
OF_TARGETS = sorted(choosing._SENTENCES)
OF_REQUESTS = [
    *(choosing.StrategyRefused, choosing.CannotServe, choosing.QuotaUsedUp, choosing.LockedOut),
    *(errors.UnknownModel, errors.LossyTranslation, errors.NoUsableTarget, errors.Overloaded),
    *(shedding.TenantBusy, shedding.ProviderBusy),
]
OF_OWN_KEYS = [own_key.BadOwnKey, own_key.OwnKeyForbidden, own_key.OwnKeyRefused]


@pytest.mark.parametrize("code", OF_TARGETS)
def test_why_a_target_is_not_asked(code: str) -> None:
    assert f"`{code}`" in (DOCS / "routing.md").read_text()
    sentence = choosing.sentence_of(Rejected(target("a"), code, 1, 2, "x"))
    assert sentence.startswith(("it ", "its ", "the ", "your "))
    assert "{" not in sentence


def test_every_need_has_its_refusal() -> None:
    assert {f"no_{name}" for name in BITS} <= set(OF_TARGETS)
    assert BITS["reasoning"] == REASONING


@pytest.mark.parametrize("error", OF_REQUESTS + OF_OWN_KEYS)
def test_why_a_request_is_refused(error: type[DoorError]) -> None:
    page = "logins.md" if error in OF_OWN_KEYS else "routing.md"
    assert f"`{error.code}`" in (DOCS / page).read_text()


def test_none_is_forgotten() -> None:
    """Whoever adds an error to these modules adds it here."""
    for module in (choosing, own_key, shedding):
        made = {
            found
            for found in vars(module).values()
            if isinstance(found, type)
            and issubclass(found, DoorError)
            and found.__module__ == module.__name__
        }
        assert made <= set(OF_REQUESTS + OF_OWN_KEYS)
