"""Images, shapes and spectra on the same coordinate networks as the radiance fields; each a command line."""
