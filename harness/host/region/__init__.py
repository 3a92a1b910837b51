"""A region of memory that every kernel of this host sets aside, for the RAM of guests."""
