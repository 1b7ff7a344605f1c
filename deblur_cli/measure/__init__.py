"""Numbers about photos: sharpness, blur extent, noise, fidelity."""
