from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class TenantsConfig(AppConfig):
    name = "tenants"
    verbose_name = "Tenants"

    def ready(self) -> None:
        from tenants import row_security
        from tenants.vault import checks  # noqa: F401  (registers the check of the key ring)

        connection_created.connect(row_security.watch, dispatch_uid="tenants.row_security")
        post_migrate.connect(
            row_security.after_migrate, sender=self, dispatch_uid="tenants.row_security"
        )
