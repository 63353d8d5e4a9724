"""What several dock widgets are made of."""
