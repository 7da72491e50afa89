"""``python -m seedance_provider``: the commands of ``airflow seedance`` on every version of Airflow."""

from seedance_provider.cli.definition import make_parser

if __name__ == "__main__":
    arguments = make_parser().parse_args()
    arguments.func(arguments)
