"""A random model of the core: a scripted world that anything may happen in, and the laws that hold
all the same."""
