"""From scores to p-values, thresholds and one verdict."""
