"""Weights -> ONNX -> model_repository, one file per step."""
