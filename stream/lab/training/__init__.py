"""Making the frozen priors: the detector's numbers over labelled worlds, the laws and the rule fitted to them.

`python -m stream.lab.training` writes the file that the package ships. Nothing in here runs in a worker. It
listens in the place of the rule, so it runs on the sources.
"""

from stream import native

native.take_sources()
