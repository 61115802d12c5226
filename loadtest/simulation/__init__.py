"""The fleet in virtual time: the client's own gate, scheduler, router, governor and tracker against a GPU profile."""
