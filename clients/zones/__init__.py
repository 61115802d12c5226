"""Where in a camera's picture something is to be noticed, what happened there, and who is told."""
