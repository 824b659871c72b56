"""Metrics, logs, traces, drift and the live record."""
