"""Overdraw: a streaming rate-anomaly detector for LLM APIs.

`events`, `alerts` and `settings` hold the shared words; `core` is the pure detector; `gateways` turn raw records into
calls; `worker` is the Faust shell around the core; `lab` runs the same core over files; `cli` is the command line.
"""

from stream import native

__all__ = ["native"]
__version__ = "0.1.0"
