"""One module for each row of the dashboards: its panels, from left to right, wrapped where the grid ends.

A panel's number is its own within a dashboard for ever: alerts and bookmarks name it.
"""

NO_WORKER = "No worker is scraped"
NO_KEEPER = "No worker that keeps the groups is scraped"
NO_CALLS = "No calls in this time: does the gateway write to the source topic? `overdraw check` tells"
NO_INCIDENT = "No incident of a key is open. (Nobody looks unless a worker answers, above.)"
