"""Networks as mathematics: tensors (B, 3, H, W) in, tensors out."""
