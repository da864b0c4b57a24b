"""Antiphon on more than one process and machine: Ray Serve, Kubernetes, Compose, and how many replicas it takes."""
