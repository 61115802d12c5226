"""A card that is not there: engines of a real Triton that wait as long as a profile says, and share one card."""
