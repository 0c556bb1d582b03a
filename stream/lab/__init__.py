"""The same core off line: files in, alerts out; simulated traffic; measurements."""
