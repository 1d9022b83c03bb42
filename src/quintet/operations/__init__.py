"""One request and one result for each verb: the only door for the command line, a server and a studio."""
