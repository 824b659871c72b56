"""Scoring of data sets: inputs cut into pieces, results as one file or as parts that a killed run continues."""
