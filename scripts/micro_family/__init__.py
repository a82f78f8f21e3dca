"""How the embedded family and its reward model were trained, from seeds."""
