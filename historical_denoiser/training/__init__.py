"""What a network is trained with, what it is judged by, and one step of training."""
