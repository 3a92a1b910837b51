"""From the record of a run to what people and programs read. Reads files, never guests."""
