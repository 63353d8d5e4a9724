"""The networks that can be trained, one module each; `registry` finds them by name."""
