"""Data that need no download: drawn faces with planted groups, drawn rooms, real digits."""
