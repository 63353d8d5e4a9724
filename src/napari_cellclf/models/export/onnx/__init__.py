"""Keras networks as ONNX graphs: one function for each layer that a bundle may hold."""
