"""Alerts for others: as OCSF findings, as rows of a table, and as a folder that can be sent on. Pure: no Kafka here."""
