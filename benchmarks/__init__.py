"""Measurements, one file a question; each prints ratios within one run and keeps its table in `results/`."""
