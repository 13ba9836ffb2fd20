"""The recipe: one settings object per stage, read from presets, files and the command line."""
