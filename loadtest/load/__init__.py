"""Users of Locust that are cameras: how they are paced, what they send, how they are judged. See docs/loadtest.md."""
