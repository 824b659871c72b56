"""What a column of a table is: the rules by which `elbound.data.infer` decides."""
