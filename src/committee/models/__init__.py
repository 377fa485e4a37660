"""Where models come from: ONNX files, the user's own code, timm, torchvision, transformers."""
