"""The pure detector: here lives what decides. No Faust, no clock, no I/O, no randomness."""
