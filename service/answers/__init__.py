"""Scored items to JSON, CSV and Arrow, and the schemas of these."""
