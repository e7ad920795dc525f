"""Many users' requests on one base, each with its own user's shift."""
