"""The wire formats, pure: bytes and JSON in, canonical values out, both directions."""
