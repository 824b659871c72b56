"""One device, many jobs. No HTTP here."""
