"""Pictures to train on and to score: folders as they are published, clips, and what was decoded of them."""
