"""Which bundles are served, and how their versions change."""
