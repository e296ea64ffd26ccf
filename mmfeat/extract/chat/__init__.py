"""Chat models of transformers, whatever is wanted of them: what they take, how they are loaded and called."""
