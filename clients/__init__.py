"""Cameras to detections, in the order a frame travels: source, gate, schedule, infer, track, sink."""
