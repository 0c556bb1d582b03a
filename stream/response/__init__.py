"""What is done about an incident, beyond telling of it: recommended, approved, applied to the gateway, and undone.

Here lives what needs no Kafka: the response file, the record of a response and its life cycle, the board that decides
what is due, and one module a gateway. What reads alerts and keeps the records is `stream.worker.responder`.
"""
