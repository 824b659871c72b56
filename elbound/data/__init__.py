"""Reading what users have: tables and images, their schema, their tensors and their splits."""
