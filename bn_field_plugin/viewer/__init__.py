"""Additions to nerfstudio's viewer: a network's spectrum and statistics, shown while it trains."""
