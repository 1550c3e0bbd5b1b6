"""What was added up already gets its sums of whole hours and days."""

import hashlib

from django.db import migrations
from django.db.models import Sum

from tenants import scope

FIGURES = (
    *("requests", "errors", "unknown", "input_tokens", "output_tokens"),
    *("cost_nanos", "charge_nanos", "estimated_nanos"),
)
# Of no key, no member, no provider and no model, as tenants/usage/rollups.py makes it.
GROUP = hashlib.sha256(b"\n\n\n").hexdigest()


def sum_up(apps, schema_editor):
    rollup = apps.get_model("tenants", "Rollup")
    with scope.platform("sums of rollups"):
        sums = (
            rollup.objects.filter(grain__in=("hour", "day"))
            .order_by()
            .values("tenant_id", "grain", "starts_at")
            .annotate(**{f"sum_{name}": Sum(name) for name in FIGURES})
        )
        rollup.objects.bulk_create(
            (
                rollup(
                    tenant_id=row["tenant_id"],
                    grain=f"{row['grain']}_sum",
                    starts_at=row["starts_at"],
                    group=GROUP,
                    **{name: row[f"sum_{name}"] for name in FIGURES},
                )
                for row in sums.iterator()
            ),
            batch_size=500,
            ignore_conflicts=True,
        )


def forget(apps, schema_editor):
    with scope.platform("sums of rollups"):
        apps.get_model("tenants", "Rollup").objects.filter(
            grain__in=("hour_sum", "day_sum")
        ).delete()


class Migration(migrations.Migration):
    dependencies = [("tenants", "0014_rollup_sums_and_common_prices")]

    operations = [migrations.RunPython(sum_up, forget, elidable=True)]
