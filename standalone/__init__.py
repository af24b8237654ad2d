"""Command lines for images, shapes and spectra, on the coordinate networks that radiance fields use too."""
