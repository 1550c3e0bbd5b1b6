"""manage.py keys peppers: which pepper signed how many of the keys in use."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Count

from controlplane.kit import clock
from tenants import scope
from tenants.keys import peppers
from tenants.keys.models import ApiKey


class Command(BaseCommand):
    help = "Shows how many keys in use each pepper signed, before you take one out."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["peppers"])

    def handle(self, *args: Any, **options: Any) -> None:
        ring = [peppers.name(pepper) for pepper in peppers.ring()]
        with scope.platform("keys by pepper"):
            counts = dict(
                ApiKey.objects.usable(now=clock.now())
                .values_list("pepper_name")
                .annotate(number=Count("id"))
                .order_by("pepper_name")
            )
        for place, name in enumerate(ring):
            number = counts.pop(name, 0)
            if place == 0:
                remark = "signs new keys"
            elif number:
                remark = "still needed: rotate or revoke these keys first"
            else:
                remark = "no longer needed: take it out of KEY_PEPPERS"
            self.stdout.write(f"{name}  {number} keys  {remark}")
        for name, number in counts.items():
            self.stdout.write(f"{name}  {number} keys  not in KEY_PEPPERS: these keys do not work")
