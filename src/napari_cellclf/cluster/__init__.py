"""Many machines: the images of one listing classified by the workers of a dask cluster."""
