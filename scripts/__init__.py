"""What maintainers run: the sample data, the reference and the hooks of the site."""
