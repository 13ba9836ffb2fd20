"""The progress of a run: its pace, and the log that a terminal and the metrics read."""
