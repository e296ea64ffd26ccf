"""What tests of several folders share: made worlds, stores, models, media, servers and readers."""
