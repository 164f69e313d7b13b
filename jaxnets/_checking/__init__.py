"""What `jaxnets.gradcheck` is made of; it may import the autodiff below it, and no op."""
