"""What nerfstudio's viewer shows of a network: its spectrum and its statistics, live."""
