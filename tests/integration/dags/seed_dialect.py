"""Create and wait, with a connection that a Param names and the input spelling of the API's first documentation."""

from airflow.providers.common.compat.sdk import DAG

from seedance_provider.operators.seedance import SeedanceCreateTaskOperator
from seedance_provider.sensors.seedance import SeedanceTaskSensor

with DAG("seed_dialect", schedule=None, params={"connection": "seedance_seed"}):
    create = SeedanceCreateTaskOperator(
        task_id="create_video",
        seedance_conn_id="{{ params.connection }}",
        model="seedance-20",
        inputs={"prompt": "A sunset over the ocean", "resolution": "1280x720", "duration": "5s"},
    )
    SeedanceTaskSensor(
        task_id="wait_for_video",
        seedance_conn_id="{{ params.connection }}",
        seedance_task_id=create.output,
    )
