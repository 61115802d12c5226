"""Where frames come from, and how a decoded frame becomes a canvas."""
