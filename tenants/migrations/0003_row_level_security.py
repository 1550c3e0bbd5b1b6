from django.db import migrations

from tenants import row_security


def enable(apps, schema_editor):
    # The rows of other apps may have no table yet: post_migrate adds their policies.
    row_security.apply(schema_editor.connection)


def disable(apps, schema_editor):
    row_security.remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_audit_append_only")]

    operations = [migrations.RunPython(enable, disable, elidable=False)]
