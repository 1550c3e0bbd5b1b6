"""The console as two Django apps: our own, and Django's admin with our site in it."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AppConfig):
    name = "controlplane.console"
    label = "console"
    verbose_name = "Console"

    def ready(self) -> None:
        from allauth.mfa.models import Authenticator
        from django.db.models.signals import post_delete, post_save

        from controlplane.console.sign_in import factors

        post_save.connect(factors.on_factor_saved, sender=Authenticator, dispatch_uid="console")
        post_delete.connect(factors.on_factor_deleted, sender=Authenticator, dispatch_uid="console")


class ConsoleAdminConfig(AdminConfig):
    """`django.contrib.admin.site` is our site: `@admin.register` in an admin.py needs no more."""

    default = False
    default_site = "controlplane.console.site.ConsoleSite"
