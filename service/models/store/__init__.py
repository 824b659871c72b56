"""A folder of models whose versions change while the server runs."""
