"""The wire protocol of the Seedance jobs API: no I/O and no clock of its own."""
