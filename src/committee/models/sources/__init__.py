"""Sources of models, a file each: ONNX, Python, timm, torchvision, transformers, PyTorchVideo."""
