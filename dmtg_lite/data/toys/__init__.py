"""Data that need no download: drawn faces with planted groups, drawn rooms, scikit-learn's digits."""
