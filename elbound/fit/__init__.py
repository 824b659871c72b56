"""Fitting: schedules, the loop, checkpoints, and the one path from items to a calibrated scorer."""
