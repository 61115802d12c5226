"""The rendered city: who is where and when, what it looks like. No command, no file format."""
