"""Two photos of one scene: register, warp, exposure."""
