"""Alerts about limits become alerts like the others, so that none is raised a second time."""

from django.db import migrations

from tenants import scope


def move(apps, schema_editor):
    old = apps.get_model("tenants", "QuotaAlert")
    new = apps.get_model("tenants", "Alert")
    with scope.platform("alerts move to a table of their own"):
        for row in old.objects.order_by("pk").iterator():
            new.objects.create(
                tenant_id=row.tenant_id,
                kind="quota",
                key=f"{row.tenant_id or 'platform'}:{row.counter_key}:{row.percent}",
                title=f"{row.percent} % used",
                text=f"{row.percent} % of a limit were used.",
                facts={
                    "limit_id": str(row.limit_id),
                    "used": row.used,
                    "amount": row.amount,
                    "percent": row.percent,
                },
                created_at=row.created_at,
            )


class Migration(migrations.Migration):
    dependencies = [("tenants", "0009_alerts")]

    operations = [migrations.RunPython(move, migrations.RunPython.noop, elidable=True)]
