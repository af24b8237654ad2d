"""Images as small files: a fitted network, rounded and entropy coded."""
