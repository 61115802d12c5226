"""What a user would run instead, measured beside ours."""
