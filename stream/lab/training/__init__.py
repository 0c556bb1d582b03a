"""Making the frozen priors: the detector's numbers over labelled worlds, the laws and the rule fitted to them.

`python -m stream.lab.training` writes the file that the package ships. Nothing in here runs in a worker.
"""
