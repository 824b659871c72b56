"""The server: loads bundles and scores uploads."""
