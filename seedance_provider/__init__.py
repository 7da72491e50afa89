"""Apache Airflow provider for the Seedance video generation API."""

__version__ = "0.1.0"
