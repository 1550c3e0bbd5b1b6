"""Refuses to start beside secrets that the key ring cannot open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from django.apps import AppConfig
from django.core import checks
from django.db import DatabaseError, connection

from tenants.vault.errors import KeyRingProblem, KeyServiceUnavailable
from tenants.vault.models import DataKey
from tenants.vault.ring import verify_before_start


@checks.register(checks.Tags.security)
def key_ring_fits(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001  (Django's signature)
    **kwargs: object,  # noqa: ARG001
) -> list[checks.CheckMessage]:
    """Not a database check in Django's sense (those run in `migrate` only): every command
    that runs checks must refuse."""
    try:
        if not _has_tables():
            return []
        verify_before_start()
    except DatabaseError:
        # The database's own trouble is told by whoever needs it next, with a better sentence.
        return []
    except (KeyRingProblem, KeyServiceUnavailable) as error:
        return [checks.Error(str(error), id="vault.E001")]
    return []


def _has_tables() -> bool:
    name = str(connection.settings_dict["NAME"])
    # Connecting to a file that is not there would create it. (`file:…` and `:memory:` are no
    # files.)
    is_path = connection.vendor == "sqlite" and not name.startswith(("file:", ":memory:"))
    if is_path and not Path(name).is_file():
        return False
    return DataKey._meta.db_table in connection.introspection.table_names()
