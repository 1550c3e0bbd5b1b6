"""What an alert can be about."""

from __future__ import annotations

from typing import Final

from controlplane.kit.badges import StateChoices, Tone


class AlertKind(StateChoices):
    QUOTA = "quota", Tone.WARN, "A limit comes near"
    RUNWAY = "runway", Tone.WARN, "A budget will not last"
    NEEDS_LOGIN = "needs_login", Tone.BAD, "A credential needs somebody"
    SUBSCRIPTION = "subscription", Tone.WARN, "A vendor's quota is used up"
    EXPIRING = "expiring", Tone.WARN, "A credential ends and is not renewed"
    PROVIDER_DOWN = "provider_down", Tone.BAD, "A provider does not work"
    LEDGER = "ledger", Tone.BAD, "The usage ledger does not add up"
    JOURNAL = "journal", Tone.WARN, "Usage was kept in a journal"
    AUDIT = "audit", Tone.BAD, "The audit log was changed"
    RECEIVER_OFF = "receiver_off", Tone.BAD, "A webhook was switched off"
    TEST = "test", Tone.INFO, "A test"


# What a receiver can choose. A test goes to the one that it tries.
CHOSEN: Final = tuple(kind for kind in AlertKind if kind is not AlertKind.TEST)
CHOICES: Final = [(str(kind.value), str(kind.label)) for kind in CHOSEN]
