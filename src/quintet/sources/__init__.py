"""Where data come from: built-in and named sets, paths, the hub."""
