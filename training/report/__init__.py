"""What a training run is worth, for people: the numbers, the pictures, the page and the verdict."""
