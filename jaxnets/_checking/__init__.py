"""What `jaxnets.gradcheck` is made of."""
