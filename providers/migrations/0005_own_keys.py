"""Whether requests may bring the provider's key with them. Empty = not said: no."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("providers", "0004_logins")]

    operations = [
        migrations.AddField(
            model_name="registrypolicy",
            name="allows_own_keys",
            field=models.BooleanField(blank=True, null=True),
        )
    ]
