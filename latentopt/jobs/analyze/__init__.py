"""The jobs of `latentopt analyze`: each is a function of the same name, in a file of its own."""
