"""manage.py login_models: which models of a connected account wait for their terms, and accept."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kit.errors import GatewayError
from providers.credentials.models import Credential
from providers.oauth.model_terms import ModelTerms, accept, terms_of
from tenants import scope
from tenants.audit.actor import Kind, acting_as


class Command(BaseCommand):
    help = "Show the models of a connected account that have terms, or accept those of one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", help="the registration's slug")
        parser.add_argument("--tenant", default="", help="slug; left out: the platform's account")
        parser.add_argument("--as", dest="person", default="", help="e-mail of whose login it is")
        parser.add_argument("--enable", default="", metavar="MODEL", help="accept its terms")
        parser.add_argument("--yes", action="store_true", help="accept unasked")

    def handle(self, *_: Any, **options: Any) -> None:
        with (
            acting_as(Kind.COMMAND, None, f"{getpass.getuser()} (login_models)"),
            scope.platform("terms of models"),
        ):
            try:
                credential = self._credential(options)
                found = terms_of(credential)
                if not options["enable"]:
                    self._show(credential, found)
                    return
                self._accept(credential, found, options)
            except GatewayError as error:
                raise CommandError(error.message) from None

    def _credential(self, options: dict[str, Any]) -> Credential:
        rows = Credential.objects.select_related("provider").filter(
            kind=Credential.Kind.OAUTH, provider__slug=options["provider"]
        )
        tenant = options["tenant"]
        rows = rows.filter(tenant__slug=tenant) if tenant else rows.filter(tenant=None)
        if options["person"]:
            rows = rows.filter(owner__email__iexact=options["person"])
        found: list[Credential] = list(rows[:2])
        if not found:
            raise CommandError("No account is connected there: sign in first.")
        if len(found) > 1:
            raise CommandError("Several accounts are connected there: say whose, with --as.")
        return found[0]

    def _show(self, credential: Credential, found: list[ModelTerms]) -> None:
        self.stdout.write(f"Models of {credential.account_label} that have terms:")
        for each in found:
            state = "accepted" if each.is_enabled else "waiting for you"
            self.stdout.write(f"  {each.id}: {state}")
        if not found:
            self.stdout.write("  none")

    def _accept(
        self, credential: Credential, found: list[ModelTerms], options: dict[str, Any]
    ) -> None:
        model = options["enable"]
        for each in found:
            if each.id == model and each.terms:
                self.stdout.write(f"The terms of {each.name}:\n\n{each.terms}\n")
        question = f"Accept them in the name of {credential.account_label}? [y/N] "
        if not options["yes"] and input(question).strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was accepted.")
        is_new = accept(credential, model)
        said = "accepted. Refresh the provider's models" if is_new else "accepted before"
        self.stdout.write(f"The terms of {model} are {said}.")
