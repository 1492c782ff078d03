"""Feature flags outside the cluster."""
