"""What a trained model is asked beside its scores: collapse, regret, fresh calibration."""
