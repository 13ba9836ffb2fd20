"""The recipe: one settings object a stage, read from presets, files and the command line."""
