"""Serve a cascade: one endpoint, batches per stage across requests."""
