"""One module for each row of the dashboard: its PANELS, from left to right, wrapped where the grid ends."""

NO_WORKER = "No worker is scraped"
NO_CALLS = "No calls in this time: does the gateway write to the source topic? `overdraw check` tells"
