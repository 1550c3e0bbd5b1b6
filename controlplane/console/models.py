"""Index: Django finds the models of signing in here."""

from controlplane.console.sign_in.models import SealedFactor, SignInSlot, SpentCode

__all__ = ["SealedFactor", "SignInSlot", "SpentCode"]
