"""Every night: are the chains whole, and where do they end."""

from __future__ import annotations

import logging
import textwrap
from datetime import timedelta
from typing import Any

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from tenants import scope
from tenants.alerts.kinds import AlertKind
from tenants.alerts.services import alert
from tenants.audit import verify

log = logging.getLogger(__name__)


# Ten thousand events take some two seconds: millions stay within the lease.
@handler("audit.verify", every=timedelta(days=1), lease=timedelta(hours=1))
def verify_all_chains(**_: Any) -> None:
    """The log is where the database's owner cannot reach back: a chain whose end was cut off since
    is shorter than the head written here."""
    with scope.platform("nightly check of the audit chains"):
        report = verify.verify()
        heads = verify.stored_heads()
    for finding in report.findings:
        log.error("the audit log was changed: %s", finding)
    if report.findings:
        found = [str(finding) for finding in report.findings[:20]]
        alert(
            AlertKind.AUDIT,
            tenant_id=None,
            key=f"{clock.now():%Y-%m-%d}",
            title="The audit log was changed",
            text="\n".join(
                [*found, "", "Keep the database as it is, and run: manage.py audit verify"]
            ),
            facts={"findings": found},
        )
    for chain, head in heads.items():
        # In groups: a long run of random characters would be hidden as a secret.
        groups = " ".join(textwrap.wrap(head.hash, 16))
        log.info("audit head of %s: #%d %s", chain, head.sequence, groups)
