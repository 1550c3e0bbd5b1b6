"""The database itself refuses to change what the ledger holds.

Deleting is for retention alone, and shows: each chain has its sequence and its hashes.
"""

from django.db import migrations

TABLES = ("tenants_usageevent", "tenants_posting")

POSTGRESQL = """
    CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the usage ledger is never changed'
            USING ERRCODE = 'restrict_violation';
    END $$;
"""


def refuse_changes(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        if schema_editor.connection.vendor == "sqlite":
            for table in TABLES:
                cursor.execute(
                    f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}"
                    " BEGIN SELECT RAISE(ABORT, 'the usage ledger is never changed'); END"
                )
            return
        cursor.execute(POSTGRESQL)
        for table in TABLES:
            cursor.execute(
                f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}"
                " FOR EACH ROW EXECUTE FUNCTION ledger_refuse()"
            )


def allow_changes(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        is_sqlite = schema_editor.connection.vendor == "sqlite"
        for table in TABLES:
            on = "" if is_sqlite else f" ON {table}"
            cursor.execute(f"DROP TRIGGER IF EXISTS {table}_no_update{on}")
        if not is_sqlite:
            cursor.execute("DROP FUNCTION IF EXISTS ledger_refuse()")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0004_quotas_and_ledger")]

    operations = [migrations.RunPython(refuse_changes, allow_changes, elidable=False)]
