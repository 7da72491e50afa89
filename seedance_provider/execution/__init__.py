"""What a task instance does, without Airflow's operators: submit, wait for a slot and for the end, report."""
