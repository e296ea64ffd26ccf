"""On-screen text: what stands written in a picture, or in the frames of a clip."""
