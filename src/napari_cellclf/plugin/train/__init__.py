"""The dock widget Train: decisions in pure modules, the training in a process of its own."""
