"""How well the default detector separates, beside its peers in the same run: `python -m benchmarks.detection`."""
