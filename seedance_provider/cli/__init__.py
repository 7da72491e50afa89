"""The command line: ``airflow seedance`` (Airflow 3.2 and later) and ``python -m seedance_provider``."""
