"""The rule by which a cascade exits: outputs, scores, combinations, calibration, and the flow."""
