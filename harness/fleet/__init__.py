"""Many hosts: who may pause an availability set now, and in which order hosts are done."""
