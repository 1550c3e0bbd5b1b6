"""Whether a registration works: asked on a schedule or at the press of a button, and kept."""
