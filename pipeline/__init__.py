"""Updates: the order of stages, the workspace, the lineage and the command line. Start at ``update/update.py``."""
