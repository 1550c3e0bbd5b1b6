"""From a secret to the headers of one request. Pure."""
