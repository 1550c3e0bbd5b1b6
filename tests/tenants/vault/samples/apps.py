from django.apps import AppConfig


class SamplesConfig(AppConfig):
    name = "tests.tenants.vault.samples"
    label = "vault_samples"
