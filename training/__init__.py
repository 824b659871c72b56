"""The offline application: read data, fit, calibrate, evaluate, report, write a bundle."""
