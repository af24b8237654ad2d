"""Spectra of the neural tangent kernel as `bn-ntk` reports them, and the studies of the paper."""
