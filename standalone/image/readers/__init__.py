"""Picture files to pixels and back, one reader for each format."""
