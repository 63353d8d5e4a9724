"""Answer over HTTP: one model, many clients."""
