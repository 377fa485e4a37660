"""Engines, which run models: onnxruntime and torch."""
