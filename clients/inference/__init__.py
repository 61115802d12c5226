"""How a granted frame becomes detections: one protocol, four transports, one place that talks to Triton."""
