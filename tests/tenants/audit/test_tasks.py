"""The nightly check: heads go to the log, and so does what does not fit."""

from __future__ import annotations

import logging

import pytest
from django.db import connection

from controlplane.logs import formatter
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.audit.services import record
from tenants.audit.tasks import verify_all_chains
from tenants.audit.verify import stored_heads
from tenants.members.models import Tenant
from tests.audit_log import changes_allowed

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture
def _events(tenant: Tenant) -> None:
    with scope.tenant(tenant.id), acting_as("command", None, "tests"):
        for _ in range(3):
            record(tenant_id=tenant.id, action="test.happened", target=tenant)


@pytest.mark.usefixtures("_events")
def test_the_head_of_each_chain_can_be_read_in_the_log(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    verify_all_chains()
    with scope.platform("test"):
        head = stored_heads()[str(tenant.id)]
    # As production writes it: nothing of the hash may look like a secret to be hidden.
    lines = [formatter(layout="json").format(record) for record in caplog.records]
    assert any(
        head.hash in line.replace(" ", "") and f"#{head.sequence} " in line for line in lines
    ), lines
    assert not [line for line in lines if '"error"' in line]


@pytest.mark.usefixtures("_events")
def test_a_changed_event_is_an_error_in_the_log(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    with scope.platform("test"), changes_allowed(connection), connection.cursor() as cursor:
        table = AuditEvent._meta.db_table
        cursor.execute(
            f"UPDATE {table} SET actor_label = 'nobody' WHERE chain = %s AND sequence = 2",
            [str(tenant.id)],
        )
    verify_all_chains()
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"{tenant.id} #2" in line.getMessage()
