"""`manage.py login`: connect an account from a terminal, or say which logins are switched on."""

from __future__ import annotations

import getpass
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kit import clock
from controlplane.kit.errors import GatewayError
from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.oauth import polling, services
from providers.oauth.access import access_login_target
from providers.oauth.models import DeviceLogin, LoginSettings
from providers.oauth.switch import set_logins
from providers.oauth.ways import blanks, position_of, settings_of, ways_of
from providers.oauth.words import words_for
from tenants import scope
from tenants.audit.actor import Kind, acting_as
from tenants.members.models import Tenant, User

Status = DeviceLogin.Status
_LOOK_SECONDS: Final = 0.5


class Command(BaseCommand):
    help = "Sign in at a provider with an account of your own, or switch such logins on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", help="a registration's slug, or a name of the catalog")
        parser.add_argument("--tenant", default="", help="slug; left out: for the platform")
        parser.add_argument("--as", dest="person", default="", help="e-mail of whose login it is")
        parser.add_argument("--way", default="", help="such as device, builder_id, paste")
        parser.add_argument(
            "--input",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="domain=…, start_url=…",
        )
        parser.add_argument("--shared", action="store_true", help="for all of the tenant")
        parser.add_argument("--yes", action="store_true", help="confirm the account unasked")
        parser.add_argument("--on", action="store_true", help="switch this provider's logins on")
        parser.add_argument("--off", action="store_true", help="switch them off")
        parser.add_argument(
            "--sharing", choices=list(LoginSettings.Sharing.values), help="with --on"
        )
        parser.add_argument(
            "--permission", default="", help="with --sharing tenant or platform: says why"
        )
        parser.add_argument("--overrides", default="", metavar="FILE", help="with --on: JSON")
        parser.add_argument(
            "--client-secret", action="store_true", help="with --on: ask for the client secret"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        with acting_as(Kind.COMMAND, None, f"{getpass.getuser()} (login)"):
            try:
                if options["on"] or options["off"]:
                    self._switch(options)
                else:
                    self._sign_in(options)
            except ValidationError as error:
                raise CommandError(" ".join(error.messages)) from None
            except GatewayError as error:
                raise CommandError(error.message) from None

    # --- the switch ---------------------------------------------------------------------------

    def _switch(self, options: dict[str, Any]) -> None:
        name = options["provider"]
        overrides = None
        if options["overrides"]:
            try:
                overrides = json.loads(Path(options["overrides"]).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise CommandError(f"{options['overrides']} cannot be read: {error}") from None
        secret = Secret(getpass.getpass("Client secret: ")) if options["client_secret"] else None
        with scope.platform("switch logins"):
            custom = Provider.objects.filter(tenant=None, slug=name, catalog_id="").first()
            row = (
                LoginSettings.objects.filter(provider=custom).first()
                if custom is not None
                else LoginSettings.objects.filter(catalog_id=name).first()
            )
            sharing = options["sharing"] or (row.sharing if row is not None else "owner")
            made = set_logins(
                row,
                catalog_id="" if custom is not None else name,
                provider_id=custom.pk if custom is not None else None,
                is_on=options["on"],
                sharing=sharing,
                permission=options["permission"] or (row.permission if row is not None else ""),
                overrides=overrides,
                client_secret=secret,
                now=clock.now(),
            )
        self.stdout.write(f"Logins of {name} are {'on' if made.is_on else 'off'}.")

    # --- a login ------------------------------------------------------------------------------

    def _sign_in(self, options: dict[str, Any]) -> None:
        user = self._person(options["person"])
        tenant = (
            Tenant.objects.filter(slug=options["tenant"]).first() if options["tenant"] else None
        )
        if options["tenant"] and tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        provider = access_login_target(
            user,
            tenant.pk if tenant is not None else None,
            options["provider"],
            is_personal=not options["shared"],
        )
        login = self._begin(user, tenant, provider, options)
        login = self._paste(login) if login.is_pasted else self._wait(login)
        self._finish(login, is_sure=options["yes"])

    def _person(self, email: str) -> User:
        people = User.objects.filter(is_active=True)
        found = people.filter(email__iexact=email).first() if email else None
        if found is None and not email and people.count() == 1:
            found = people.first()
        if found is None:
            raise CommandError("Say whose login it is: --as somebody@example.com")
        return found

    def _begin(
        self, user: User, tenant: Tenant | None, provider: Provider, options: dict[str, Any]
    ) -> DeviceLogin:
        inputs = dict(pair.partition("=")[::2] for pair in options["input"])
        place = scope.tenant(tenant.pk) if tenant is not None else scope.platform("login")
        with place:
            ways = ways_of(provider, settings_of(provider))
            way = options["way"] or next(iter(ways), "")
            if (position := position_of(provider)) is not None:
                self.stdout.write(f"The vendor's position: {position.position}\n")
            if way in ways:
                for name, identifier in blanks(provider, ways[way]).items():
                    if name not in inputs and identifier.required and not identifier.default:
                        raise CommandError(f"Give --input {name}=…: {identifier.description}.")
            login = services.begin(
                user=user,
                tenant=tenant,
                provider=provider,
                way=way,
                inputs=inputs,
                is_personal=not options["shared"],
                now=clock.now(),
            )
        return self._read(login.pk)

    def _read(self, login_id: Any) -> DeviceLogin:
        with scope.platform("login"):
            found: DeviceLogin = DeviceLogin.objects.select_related("provider").get(pk=login_id)
        return found

    def _wait(self, login: DeviceLogin) -> DeviceLogin:
        """Shows the code and asks by itself, so that no background process is needed. The row
        decides who asks: a worker that runs beside this takes its turns."""
        if login.status != Status.PENDING:
            return login
        self.stdout.write(f"Open   {login.verification_uri_complete}")
        self.stdout.write(f"Code   {login.user_code}   (check that the page shows it)")
        try:
            while login.status in (Status.PENDING, Status.APPROVED):
                self._count_down(login.expires_at)
                time.sleep(_LOOK_SECONDS)
                with scope.platform("login"):
                    polling.poll(str(login.pk))
                login = self._read(login.pk)
        except KeyboardInterrupt:
            with scope.platform("login"):
                services.cancel(login, now=clock.now())
            login = self._read(login.pk)
        self.stdout.write("")
        return login

    def _count_down(self, ends: datetime) -> None:
        if not sys.stdout.isatty():
            return
        left = max(0, int((ends - clock.now()).total_seconds()))
        self.stdout.write(f"\rWaiting, {left // 60}:{left % 60:02} left ", ending="")
        self.stdout.flush()

    def _paste(self, login: DeviceLogin) -> DeviceLogin:
        with scope.platform("login"):
            self.stdout.write(f"Open this page and sign in:\n\n{services.authorize_url(login)}\n")
            services.hand_in(login, input("Code, or the whole last address: "), now=clock.now())
        return self._read(login.pk)

    def _finish(self, login: DeviceLogin, *, is_sure: bool) -> None:
        if login.status != Status.CONFIRM:
            words = words_for(login)
            detail = f" ({login.error_detail})" if login.error_detail else ""
            raise CommandError(f"{words.title}{detail}. {words.advice}")
        question = f"Signed in as {login.account_label}. Is this the right account? [y/N] "
        if not is_sure and input(question).strip().lower() not in ("y", "yes"):
            with scope.platform("login"):
                services.cancel(login, now=clock.now())
            raise CommandError("Nothing was connected.")
        with scope.platform("login"):
            made = services.confirm(login, now=clock.now())
        self.stdout.write(f"Connected as {login.account_label}: credential {made.label!r}.")
