"""Channels of evidence."""
