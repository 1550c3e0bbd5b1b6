"""A state as people see it: its label and its colour stand beside the choice itself.

    class Status(StateChoices):
        ACTIVE = "active", Tone.GOOD, "Active"
        SUSPENDED = "suspended", Tone.BAD, "Suspended"

`Status.of(row.status).badge.html()` is what the console shows; the database sees plain choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from django.db import models
from django.utils.html import format_html
from django.utils.safestring import SafeString


class Tone(StrEnum):
    """What a colour says. The stylesheet decides how it looks, in light and in dark."""

    GOOD = "good"  # works, nothing to do
    INFO = "info"  # worth knowing
    WARN = "warn"  # will need somebody soon
    BAD = "bad"  # does not work, or is closed
    QUIET = "quiet"  # over, off, not used


@dataclass(frozen=True, slots=True)
class Badge:
    """A short label in a colour. `hint` is shown when the pointer rests on it."""

    label: str
    tone: Tone = Tone.QUIET
    hint: str = ""

    def html(self) -> SafeString:
        return format_html(
            '<span class="badge badge-{}"{}>{}</span>',
            self.tone.value,
            format_html(' title="{}"', self.hint) if self.hint else "",
            self.label,
        )


class StateChoices(models.TextChoices):
    """Choices whose members also carry a tone: `NAME = value, Tone, label`."""

    tone: Tone

    def __new__(cls, value: str, tone: Tone) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.tone = tone
        return member

    @classmethod
    def of(cls, value: str) -> Self:
        """The member of a stored value. Raises ValueError when there is none."""
        for member in cls:
            if member.value == value:
                return member
        raise ValueError(f"{value!r} is no {cls.__name__}.")

    @property
    def badge(self) -> Badge:
        return Badge(str(self.label), self.tone)
