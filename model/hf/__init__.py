"""What the ``hf`` backend is made of: loading, processor, generation, embedding."""
