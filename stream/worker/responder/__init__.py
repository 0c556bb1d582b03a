"""`overdraw responder`: reads alerts and operators' words, and does what the response file lets it do.

All that it knows stands in Kafka: a start reads the response topic, the operators' words and the last day of alerts to
their ends, and only then acts. One is at work; others stand by.
"""
