"""Choosing a committee: prefix statistics, sweeps of thresholds, the front and its targets."""
