"""Metrics of updates and workspaces, and what reads them: a Grafana dashboard, alert rules, Prometheus' settings."""
