"""An Airflow DAG that builds the night of each day, once the day is over. It only calls the commands.

Set the Airflow variables `lightsage_workspace`, `lightsage_events` (with {date} where the day stands in the path) and,
as you have them, `lightsage_items`, `lightsage_ads`, `lightsage_config`; `lightsage_command` is where the command lies.

A night that fails is tried again and goes on where it stopped; one that its gates refuse is refused again within
seconds, as all of its stages are kept, and fails the run: somebody should look at its morning report.
"""

import datetime as dt

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

COMMAND = "{{ var.value.get('lightsage_command', 'lightsage') }} --log json"
WORKSPACE = "--workspace '{{ var.value.lightsage_workspace }}'"
TABLES = " ".join(
    f"{{% if var.value.get('lightsage_{name}', '') %}}--{name} '{{{{ var.value.lightsage_{name} }}}}'{{% endif %}}"
    for name in ("items", "ads", "config")
)

with DAG(
    "lightsage_nightly",
    description="Item graph, embeddings and index of the day, published if they pass their gates",
    schedule="30 2 * * *",
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    max_active_runs=1,  # each night follows the one before
    default_args={"retries": 2, "retry_delay": dt.timedelta(minutes=10)},
    tags=["lightsage"],
) as dag:
    night = BashOperator(
        task_id="nightly",
        # The run of 2 March starts at 02:30 of 2 March and builds the night of 1 March.
        bash_command=f"{COMMAND} nightly --date {{{{ macros.ds_add(ds, -1) }}}} "
        f"--events '{{{{ var.value.lightsage_events }}}}' {WORKSPACE} {TABLES}",
    )
    versions = BashOperator(
        task_id="versions", bash_command=f"{COMMAND} versions {WORKSPACE}", trigger_rule="all_done", retries=0
    )
    night >> versions
