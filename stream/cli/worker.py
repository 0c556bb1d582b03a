"""`overdraw worker`: the live detector."""

from __future__ import annotations

import click

from stream.cli.common import settings_from, settings_options


@click.command(
    "worker",
    help="""Run the live detector until SIGTERM or Ctrl-C; a second one ends it at once.

\b
  overdraw worker --create-topics
  OVERDRAW_INSTANCE_ID=worker-0 overdraw worker --set broker=kafka:9092
  overdraw worker -- --loglevel debug

Run as many as there are cores to spare: they share the partitions of the source topic. What comes after `--` goes to
Faust's own worker. It ends within 10 s of SIGTERM, whatever hangs: what could not be written is read again at the next
start. SIGUSR1 prints where every thread is.

Exit: 0 stopped, 1 failed or the stop hung, 2 wrong settings or topics, or a state that cannot be used, 3 no broker, or
a log that has lost records, 70 a newer process has our instance_id, 75 stuck (start it again), 128 + n ended by a
second signal n.""",
)
@click.option("--create-topics", is_flag=True, help="Create the topics that are missing, instead of refusing to start.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Where a partition's stored state cannot be used (other bucket_seconds or partitions, another version, "
    "damage, or a state topic that lost it), delete it and learn it again from what the source topic still holds. Its "
    "open incidents are closed, and nothing is said a second time. A state that fits is left alone, so the flag may "
    "stay in a unit file; it only has every key looked at.",
)
@settings_options
@click.argument("faust_options", nargs=-1, type=click.UNPROCESSED)
def command(
    create_topics: bool,
    rebuild: bool,
    faust_options: tuple[str, ...],
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Check, then run."""
    from stream.worker.ending import Exit

    ending = Exit()
    ending.hear()  # before anything that takes long, such as a broker that does not answer
    settings = settings_from(assignments, config)
    from stream.cli.kafka import prepare, run_faust

    prepare(settings, create=create_topics, rebuild=rebuild)
    run_faust(settings, ending, ["--quiet", "worker", "--without-web", *faust_options], rebuild=rebuild)
