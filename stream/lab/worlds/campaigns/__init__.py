"""Campaign worlds: many keys, what links them, and groups of accounts that are drained together.

A world is a background of keys that share organisations, networks, autonomous systems, clients, prompt templates and
models as customers do, and branches: the same background goes on with some campaigns or with some benign twins in it.
Traffic comes as `Call` objects, each a sum of a few calls of one key in one bucket. Nothing in here knows the detector.
"""
