"""The same object keeps its id from frame to frame."""
