"""The read API: what people and programs ask over HTTP. Nothing that it answers changes money."""
