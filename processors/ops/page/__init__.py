"""The operators' page: what the read API answers, as people read it. Nothing on it changes money."""
