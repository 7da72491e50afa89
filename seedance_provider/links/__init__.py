"""Extra links of the task instance page."""
