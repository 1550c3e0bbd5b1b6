"""What a new installation needs. Each step is one piece and does nothing when it was done."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from controlplane.first_run import secret_files
from controlplane.first_run.errors import CannotStart
from controlplane.first_run.obstacles import database_file, first_line, is_new_file
from controlplane.first_run.progress import Progress
from controlplane.kit import clock
from controlplane.kit.errors import GatewayError
from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.services import change_registration, register
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.services import record
from tenants.keys.services import create_key
from tenants.members.models import Tenant, User
from tenants.members.services import create_tenant
from tenants.vault.services import initialise

ADMIN_EMAIL: Final = "admin@localhost"
DEMO_SLUG: Final = "demo"
SIMULATOR_SLUG: Final = "simulator"

# Without look-alikes; four groups of five are 100 bits and can be read aloud.
_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True, slots=True)
class Made:
    """What only this start knows: passwords and keys are shown once and kept nowhere."""

    admin_email: str
    admin_password: Secret | None = None
    demo_key: Secret | None = None


def prepare(progress: Progress) -> Made:
    """Makes what is not there yet. Raises CannotStart."""
    with _one_sentence(), acting_as("command", None, "first run", ""):
        settings.STATE_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        if secret_files.missing():
            with progress.step("making secrets that only you can read"):
                secret_files.write()
        make_database_file()
        if pending := pending_migrations():
            with progress.step(f"preparing the database ({pending} migrations)"):
                migrate()
        key_id = initialise()
        if key_id is not None:
            progress.done(f"made the vault key {key_id}")
        return people_and_tenants(progress)


def pending_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def migrate() -> None:
    call_command("migrate", interactive=False, verbosity=0)


def make_database_file() -> None:
    """SQLite would make it readable to all; it holds what the secrets protect."""
    if is_new_file():
        database_file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database_file().touch(mode=0o600)


@transaction.atomic
def people_and_tenants(progress: Progress) -> Made:
    """The demo tenant with its key and the first admin, where there is nothing and nobody yet.

    In one piece: a key or password that was saved but never shown would be of no use.
    """
    admin = User.objects.filter(is_superuser=True, is_active=True).order_by("created_at").first()
    password = key = None
    if not Tenant.objects.exists():
        with progress.step(f"making the tenant {DEMO_SLUG} and a key for it"):
            tenant = create_tenant(slug=DEMO_SLUG, name="Demo")
            key = make_key(tenant)
    if admin is None:
        with progress.step(f"making the first admin, {ADMIN_EMAIL}"):
            password = Secret(one_time_password())
            admin = User.objects.create_superuser(
                ADMIN_EMAIL, password.reveal(), must_change_password=True
            )
            record(
                tenant_id=None, action="staff.created", target=admin, after={"email": ADMIN_EMAIL}
            )
    return Made(admin.email, password, key)


def offer_simulator(base_url: str, *, is_new: bool) -> None:
    """The demo's upstream: every vendor, played by this gateway at its own address.

    Registered once, at the first start; later starts only follow a changed address, so that an
    admin who removed it has removed it.
    """
    origin = f"{base_url}/simulator"
    with acting_as("command", None, "first run", ""), scope.platform("offer the simulator"):
        provider = Provider.objects.filter(tenant__isnull=True, slug=SIMULATOR_SLUG).first()
        if provider is None and is_new:
            provider = register(
                slug=SIMULATOR_SLUG, catalog_id="simulator", endpoint={"origin": origin}
            )
            # The simulated vendors take any key that does not begin with "wrong".
            store_key(provider=provider, label="demo", secret=Secret("sim-" + one_time_password()))
        elif provider is not None and provider.endpoint.get("origin") != origin:
            # Another address takes other secrets: any will do there.
            again = {
                row.pk: Secret("sim-" + one_time_password()) for row in provider.credentials.all()
            }
            change_registration(
                provider, secrets=again, endpoint={**provider.endpoint, "origin": origin}
            )


def one_more_key() -> Made:
    """For `make demo-key`: the first key was shown once. Raises CannotStart."""
    with _one_sentence(), acting_as("command", None, "first run", ""):
        tenant = Tenant.objects.filter(slug=DEMO_SLUG).first()
        if tenant is None:
            raise CannotStart(f"There is no tenant {DEMO_SLUG}: make keys in the admin.")
        return Made(ADMIN_EMAIL, None, make_key(tenant))


def make_key(tenant: Tenant) -> Secret:
    with scope.tenant(tenant.id):
        _, token = create_key(tenant=tenant, label=f"Made by first_run, {clock.now():%Y-%m-%d}")
    return token


def one_time_password() -> str:
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """What a step may meet although the look before found nothing: said in one sentence."""
    try:
        yield
    except GatewayError as error:
        raise CannotStart(first_line(error) + ".") from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CannotStart(f"{where}{error.strerror or error}. Mend that, start again.") from None
    except DatabaseError as error:
        raise CannotStart(
            f"Preparing the database failed: {first_line(error)}. Nothing was left half-done: "
            "mend the cause and start again."
        ) from None
