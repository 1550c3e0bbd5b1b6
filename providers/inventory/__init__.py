"""Which models there really are: asks providers and facts files over the network."""
