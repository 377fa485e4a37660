"""Certificates: what a committee keeps on new data, at a stated level."""
