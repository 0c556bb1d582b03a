"""The control topic: following it, writing to it, and handing what it says to shards.

What a message means is `stream.control`; what it does to a shard is `stream.core.control`.
"""
