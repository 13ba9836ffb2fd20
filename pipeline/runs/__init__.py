"""One run as people follow it: its log, its pace, the bars, the view from another terminal."""
