"""A rendered street with known truth: clips to run the fleet on, pictures to train small weights with."""
