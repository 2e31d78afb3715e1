"""Fake CelebA and Taskonomy in the official byte formats: for tests and for those without the real files."""
