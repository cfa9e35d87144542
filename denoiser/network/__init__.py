"""What the network is made of below its layers, on tensors of any Keras backend."""
