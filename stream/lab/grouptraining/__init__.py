"""Making the frozen priors of groups: what groups show where nothing happens, and how often that opens a campaign.

`python -m stream.lab.grouptraining` writes the file that the package ships. Nothing in here runs in a worker.
"""
