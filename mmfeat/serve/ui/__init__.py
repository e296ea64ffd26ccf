"""Pages for people, drawn on the server: no script runs in them and nothing comes from elsewhere."""
