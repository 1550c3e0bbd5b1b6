"""How a login becomes a credential, and how it stays one."""
