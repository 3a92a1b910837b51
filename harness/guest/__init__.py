"""The guest's side: the only place that talks SSH. Nothing here knows libvirt."""
