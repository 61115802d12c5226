"""Where results go. A sink that is slow or dead never holds the pipeline up: bounded, counted."""
