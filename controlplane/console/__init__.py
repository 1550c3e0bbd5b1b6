"""The console: Django's admin as a product. Only this folder knows the theme (django-unfold)."""
