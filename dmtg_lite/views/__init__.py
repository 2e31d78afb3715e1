"""What one looks at: the live session, plots, widgets, replay pages and recorded runs."""
