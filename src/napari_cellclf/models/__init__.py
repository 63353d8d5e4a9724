"""Where Keras lives: architectures, training, and saving what was trained.

Nothing is imported here, so that asking for one module does not import Keras for another.
"""
