"""What a model is, as typed frozen data; nothing here loads a model."""
