"""An Airflow DAG that builds a version after each day. It only calls the commands.

Set the Airflow variables `lightsage_workspace` and `lightsage_events` (a path with {date} in place of the day). If you
have an items table, an ads table or a configuration file, set `lightsage_items`, `lightsage_ads` or `lightsage_config`
to its path, too. If the command is not on PATH, set `lightsage_command` to its path.

A build that fails is retried, and continues where it stopped. If a version does not pass its gates, each retry refuses
it within seconds, because its stages are kept; then the run fails, and somebody should look at the morning report.
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
    description="Build item graph, embeddings and index after each day, and publish them if they pass the gates",
    schedule="30 2 * * *",
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    max_active_runs=1,  # each night builds on the one before
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
