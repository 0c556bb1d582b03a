"""The Faust shell around the core: transport, journal, HTTP. Nothing here decides what is an anomaly."""
