"""What a path holds, read as items to train on."""
