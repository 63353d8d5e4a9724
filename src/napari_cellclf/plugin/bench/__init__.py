"""The bench: one dock with tabs for images, labels, training and results."""
