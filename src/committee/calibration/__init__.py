"""Calibrations are fitted here, and their reliability is measured."""
