"""Fakes of CelebA and Taskonomy in their own file formats: drawn, and marked as fake."""
