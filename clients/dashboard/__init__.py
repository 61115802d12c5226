"""What a person sees while the fleet runs."""
