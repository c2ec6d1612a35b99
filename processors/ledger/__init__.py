"""May this command happen, and what does it change? Pure: no I/O, no clock."""
