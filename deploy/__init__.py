"""What runs the fleet's servers: a local Triton out of a wheel, and the folders it is started on."""
