"""What every room may use. Knows nothing above itself."""
