from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tenants", "0010_move_quota_alerts")]

    operations = [migrations.DeleteModel(name="QuotaAlert")]
