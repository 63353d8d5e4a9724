"""Many rows at once: tiles, tables, counts, corrections; to label, and to look at results."""
