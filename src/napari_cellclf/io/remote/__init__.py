"""Files from elsewhere, kept only if they are those that were expected.

Nothing is imported here, so that asking for one module does not load the others.
"""
