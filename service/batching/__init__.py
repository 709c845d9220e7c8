"""Who goes next, and with whom; nothing here knows HTTP."""
