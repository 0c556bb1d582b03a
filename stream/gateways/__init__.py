"""Raw record to `Call`: one module a format. Nothing here keeps state about a key."""
