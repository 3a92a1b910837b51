"""Recovery: what runs that died left behind is found, judged, brought back and written down."""
