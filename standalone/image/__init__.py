"""Images as small continuous functions: fit, compare, encode, decode and render."""
