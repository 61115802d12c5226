"""The REST API and the live wall, in the fleet's own process and event loop."""
