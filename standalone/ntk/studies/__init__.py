"""The studies of Cai et al.: their Fig 1, scaling with width and depth, dynamics, frequencies, all claims."""
