"""The progress of a run: its pace, and the log and status file that other processes read."""
