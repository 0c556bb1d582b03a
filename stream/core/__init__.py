"""The pure detector: no Faust, no clock, no I/O, no randomness. Here lives what decides; nothing here reads or writes."""
