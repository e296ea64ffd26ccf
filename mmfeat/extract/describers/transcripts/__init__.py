"""Speech to text: what is heard of a sound, and the models that write it down."""
