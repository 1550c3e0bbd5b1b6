"""What one run of a bundle did, noted as it goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError

from providers.bundle.plan import Action, FieldStep, Remark, Step, What


class Notes:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.notes: list[Remark] = []
        self.problems: list[Remark] = []
        self._place = ""

    @contextmanager
    def about(self, place: str) -> Iterator[None]:
        before, self._place = self._place, place
        try:
            yield
        finally:
            self._place = before

    def step(
        self,
        action: Action,
        what: What,
        name: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Of a change only what differs is kept: `before` names the fields."""
        before, after = before or {}, after or {}
        names = before if action == "change" else {**before, **after}
        self.steps.append(
            Step(
                action=action,
                what=what,
                name=name,
                fields=tuple(
                    FieldStep(name=field, before=before.get(field), after=after.get(field))
                    for field in names
                ),
            )
        )

    def note(self, sentence: str) -> None:
        self.notes.append(Remark(place=self._place, sentence=sentence))

    def problem(self, sentence: str) -> None:
        self.problems.append(Remark(place=self._place, sentence=sentence))

    def refuse_others(self, what: str, owner: str, bundle: str) -> None:
        """Two bundles that set one row would undo each other for ever."""
        if bundle and owner and owner != bundle:
            raise ValidationError(
                f"This {what} belongs to the bundle {owner!r}: take it out of one of the two."
            )
