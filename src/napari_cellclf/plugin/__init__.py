"""The napari front end: reader, sample data and dock widgets."""
