"""`elbound explain`: why items of a file are odd, drawn for people."""
