"""All figures that this machine can give, measured again, and their pages in docs/benchmarks written anew."""
