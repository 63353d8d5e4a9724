"""The dock widget Classify: decisions in pure modules, Qt around them."""
