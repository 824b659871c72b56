"""What is done with a bundle: calibrate, evaluate, sign, pack."""
