"""Telling people and other systems of alerts: what a message says, who gets it, and how each service takes it.

Here lives what needs no Kafka: the notify file, routing, the words, one module a service (`services.NOTIFIERS`), the
limit on bursts, and the HTTP client. What reads the alert topic and keeps the place in it is `stream.worker.notifier`.
"""
