"""`overdraw calibrate`: how often clean key-days show which score where it is run, and a priors file that says so.

Only the way from a score to its rate is fitted; what makes a score stays as it was trained.
"""
