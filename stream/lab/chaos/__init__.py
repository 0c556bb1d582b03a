"""Failure experiments: real brokers, real workers, something breaks, and what is left is compared with what should be.

`traffic` makes the calls and knows what must come of them, `fleet` runs the workers, `world` brings all together,
`experiments` are the disturbances, `verdict` compares, `table` shows. Nothing here is used by the detector.
"""
