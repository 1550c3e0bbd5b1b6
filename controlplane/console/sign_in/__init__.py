"""Signing in: passwords, second factors, passkeys, single sign-on, and what stops guessing."""
