"""One fleet on each node of a Ray cluster that has a card, and the cameras of one configuration among them.

Ray starts processes on machines, says which machines are there, and carries calls. What is ours is who runs which
camera, that no camera is run twice, and one view over all.
"""
