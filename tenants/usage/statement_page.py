"""A month's statement as a page to print, and the check of a receipt that somebody kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.http import QueryDict

from controlplane.kit import clock
from tenants.members.models import Tenant
from tenants.quotas.models import shown
from tenants.usage.receipts import broken_receipt, read_receipt
from tenants.usage.statements import statement

_MONTH: Final = re.compile(r"(\d{4})-(\d{2})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """One model, or the total, as the page writes it."""

    name: str
    requests: str
    errors: str
    input_tokens: str
    output_tokens: str
    charged: str
    unknown: str


def context_of(query: QueryDict) -> dict[str, Any]:
    """What the page shows for `tenant`, `month` and `receipt`. In the platform's scope."""
    slug = query.get("tenant", "").replace("\0", "")
    receipt = query.get("receipt", "")
    tenant = Tenant.objects.filter(slug=slug).first()
    found: dict[str, Any] = {"slug": slug, "receipt_text": receipt, "problem": ""}
    if tenant is None:
        if slug:
            found["problem"] = "There is no such tenant: give its short name, as in its address."
        return found
    month = _month(query.get("month", ""), tenant)
    if month is None:
        found["problem"] = "Give a month such as 2026-11."
        return found
    made = statement(tenant, *month)
    return {
        **found,
        "tenant": tenant,
        "month": made["month"],
        "since": made["since"].astimezone(ZoneInfo(tenant.time_zone)),
        "until": made["until"].astimezone(ZoneInfo(tenant.time_zone)),
        "made_at": clock.now(),
        "lines": [_line(row["group"] or "–", row) for row in made["models"]],
        "total": _line("Total", made["totals"]),
        "receipt": made["receipt"],
        "checked": _checked(tenant, receipt),
    }


def _checked(tenant: Tenant, text: str) -> dict[str, Any] | None:
    if not text:
        return None
    receipt = read_receipt(text)
    if receipt is None:
        return {"holds": False, "says": "A receipt is a number and 64 hexadecimal digits."}
    wrong = broken_receipt(tenant_id=tenant.id, sequence=receipt[0], digest=receipt[1])
    says = wrong or f"The ledger still passes through event {receipt[0]:,} as it was."
    return {"holds": not wrong, "says": says}


def _line(name: str, figures: dict[str, Any]) -> Line:
    unknown = figures["unknown"]
    estimate = shown("money", figures["estimated_nanos"])
    return Line(
        name=name,
        requests=f"{figures['requests']:,}",
        errors=f"{figures['errors']:,}",
        input_tokens=f"{figures['input_tokens']:,}",
        output_tokens=f"{figures['output_tokens']:,}",
        charged=shown("money", figures["charge_nanos"]),
        unknown=f"{unknown:,}, about {estimate}" if unknown else "–",
    )


def _month(text: str, tenant: Tenant) -> tuple[int, int] | None:
    """The current one where none is named; None for what is no month."""
    if not text:
        now = clock.now().astimezone(ZoneInfo(tenant.time_zone))
        return now.year, now.month
    found = _MONTH.match(text)
    if found is None or not 1 <= int(found[2]) <= 12 or not 2000 <= int(found[1]) < 9000:
        return None
    return int(found[1]), int(found[2])
