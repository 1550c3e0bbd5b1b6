from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("providers", "0010_credential_proxies_and_quotas"),
    ]

    operations = [
        migrations.AlterField(
            model_name="loginsettings",
            name="sharing",
            field=models.CharField(
                choices=[
                    ("owner", "Only who signed in"),
                    ("tenant", "Who signed in, or all of the tenant"),
                    ("platform", "Who signed in, all of the tenant, or every tenant"),
                ],
                default="owner",
                max_length=8,
            ),
        ),
    ]
