"""Downloads, kept only if their checksum is right.

Nothing is imported here, so that importing one module does not load the others.
"""
