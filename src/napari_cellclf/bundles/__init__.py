"""The trained model on disk: its schema, how it is written, checked, found and opened. No Keras."""
