"""The demonstration on real data."""
