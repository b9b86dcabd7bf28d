"""How languages write numbers."""
