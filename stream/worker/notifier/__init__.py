"""`overdraw notifier`: reads the alert topic for each notifier on its own, and keeps the place up to which it told.

Each notifier of the file has a consumer group of its own. So Kafka is the queue: one that is down stops reading and
holds up nobody else, and goes on where it was once it is back, however long that takes.
"""
