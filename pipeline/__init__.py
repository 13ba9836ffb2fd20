"""What an update is: the order of stages, the workspace, the lineage, the command line. Read ``update.py`` first."""
