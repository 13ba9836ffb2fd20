"""Metrics of updates and workspaces, with a Grafana dashboard, alert rules and Prometheus settings."""
