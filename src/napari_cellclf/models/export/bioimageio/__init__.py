"""A bundle as a package of the BioImage Model Zoo (https://bioimage.io)."""
