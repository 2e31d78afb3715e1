"""Data of your own as a `TaskData`: arrays, tables, pictures, a torch Dataset, a CSV file."""
