"""The words of the field as plain objects: no files, no Keras, no napari, no Qt."""
