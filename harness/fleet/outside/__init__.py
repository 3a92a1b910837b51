"""A host whose run is started and followed from another machine, and outlives the host's kernel."""
