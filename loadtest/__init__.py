"""What loads the fleet, and the data sheets of the GPUs that it is planned for."""
