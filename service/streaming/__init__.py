"""Uploads that are scored while they arrive, and answers that are written piece by piece."""
