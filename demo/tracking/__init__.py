"""Trackers compared on the rendered city: same detections, same truth, regular and irregular inferences."""
