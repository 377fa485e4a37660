"""What runs a model: onnxruntime sessions and torch modules."""
