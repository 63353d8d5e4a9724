"""The bench: what is shown and done with many images and objects at once."""
