"""What is wrong with this host, its card, its configuration and its server, and what mends it."""
