"""An Airflow DAG that brings a feature store up to date every night. For Airflow 3.

mmfeat and its packages are best kept out of Airflow's own environment: the task starts the command of
another one. A task that is stopped passes SIGTERM on, upon which mmfeat commits what it has computed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id="mmfeat",
    description="Extract what is missing or changed; promote it when its gates hold",
    schedule="15 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
) as dag:
    BashOperator(
        task_id="run",
        # The last line of output is one JSON value, which Airflow keeps as the task's result (XCom).
        bash_command="/opt/mmfeat/bin/mmfeat run /etc/mmfeat/job.toml --json",
        append_env=True,
        # After a wrong job (exit code 2) or a gate that fell short (3) another try costs little: it finds
        # everything computed and ends the same way.
        retries=2,
        retry_delay=timedelta(minutes=5),
        execution_timeout=timedelta(hours=12),
    )
