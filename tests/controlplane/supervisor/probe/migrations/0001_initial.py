"""What jobs did, and how often the database saw each of them finish."""

from django.db import migrations

TABLES = """
CREATE TABLE probe_effect (number integer NOT NULL);
CREATE TABLE probe_finish (job varchar(64) NOT NULL);
"""
SQLITE_TRIGGER = """
CREATE TRIGGER probe_saw_finish AFTER UPDATE ON jobs_job WHEN NEW.finished_at IS NOT NULL
BEGIN INSERT INTO probe_finish (job) VALUES (NEW.id); END
"""
POSTGRES_TRIGGER = """
CREATE FUNCTION probe_saw_finish() RETURNS trigger AS $$
BEGIN INSERT INTO probe_finish (job) VALUES (NEW.id::text); RETURN NULL; END $$ LANGUAGE plpgsql;
CREATE TRIGGER probe_saw_finish AFTER UPDATE ON jobs_job FOR EACH ROW
WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION probe_saw_finish()
"""


def watch_finishes(apps, schema_editor):
    is_postgres = schema_editor.connection.vendor == "postgresql"
    schema_editor.execute(POSTGRES_TRIGGER if is_postgres else SQLITE_TRIGGER, params=None)


class Migration(migrations.Migration):
    initial = True
    dependencies = [("jobs", "0001_initial")]
    operations = [migrations.RunSQL(TABLES), migrations.RunPython(watch_finishes)]
