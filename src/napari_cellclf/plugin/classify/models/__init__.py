"""The part of the form that looks after models: what there is, fetch, import, share, remove."""
