"""Drivers that execute a flow of :mod:`seedance_provider.api.flows` over real HTTP, and what they share."""
