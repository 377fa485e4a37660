"""Fitting calibrations on a split, and how reliable confidences are."""
