"""What a task instance does: submit, wait for a slot, wait for the end, keep the result. Without Airflow's operators."""
