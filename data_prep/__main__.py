"""python -m data_prep <dataset> --raw=PATH --data_dir=DIR: the command line of data preparation."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import NoReturn

from PIL import Image

from data_prep.arguments import BUILDERS, builder_of
from data_prep.download import download_all, instructions
from data_prep.items import BadArgument, Option, PrepareError
from data_prep.prepare import prepare
from data_prep.protocol import Protocol, load_protocol, protocol_names
from sbir_jax.config import nearest

_COMMON = (
    Option("name", "", "name of the prepared dataset (default: the protocol's or dataset's)"),
    Option("protocol", "", "published protocol to follow: python -m data_prep protocols"),
    Option(
        "on_counts",
        "fail",
        "other counts than the protocol's: stop, or note them in every result",
        ("fail", "note"),
    ),
    Option(
        "on_error", "fail", "bad images: list all and stop, or leave them out", ("fail", "skip")
    ),
    Option("val", 0.1, "share of photo instances for validation"),
    Option("test", 0.2, "share of photo instances for the test"),
    Option("seed", 0, "seed of the drawn splits"),
    Option("max_side", 256, "larger images are stored with this shorter side, in pixels"),
)


class _OneLine(argparse.ArgumentParser):
    """Reports a bad flag in one line, with the nearest valid ones."""

    def error(self, message: str) -> NoReturn:
        raise BadArgument(f"{message}; see {self.prog} --help")


def main(argv: list[str]) -> int:
    """Runs one command line; returns the exit code (0; 1 unusable data; 2 bad argument)."""
    # The size limit is ours to report, file by file.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(_overview())
            return 0
        dataset, *flags = argv
        if dataset == "protocols":
            print(_protocols(flags))
            return 0
        builder = builder_of(dataset)
        arguments = _parsed(dataset, flags)
        download = arguments.pop("download")
        if download:
            return _download(dataset, Path(download))
        if not arguments["raw"] and builder.SOURCES:
            print(instructions(dataset, builder.RAW, builder.SOURCES))
        prepare(dataset, **arguments)
    except PrepareError as error:
        print(f"data_prep: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadArgument) else 1
    except KeyboardInterrupt:
        print("data_prep: interrupted; nothing was left behind", file=sys.stderr)
        return 130
    return 0


def _parsed(dataset: str, flags: list[str]) -> dict:
    parser = _parser(dataset)
    arguments, unknown = parser.parse_known_args(flags)
    if unknown:
        valid = [action.option_strings[-1] for action in parser._actions]
        raise BadArgument(f"{unknown[0]}: no such flag of {dataset}; {nearest(unknown[0], valid)}")
    arguments = vars(arguments)
    return {**arguments, "name": arguments["name"] or None}


def _parser(dataset: str) -> argparse.ArgumentParser:
    builder = BUILDERS[dataset]
    parser = _OneLine(
        prog=f"python -m data_prep {dataset}",
        description=builder.__doc__,
        epilog=f"example: python -m data_prep {dataset} {builder.EXAMPLE}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = "directory of prepared datasets (default: data)"
    parser.add_argument("--raw", metavar="PATH", help=builder.RAW)
    parser.add_argument("--data_dir", default="data", metavar="DIR", help=where)
    parser.add_argument("--download", metavar="DIR", help="fetch its archives, and do no more")
    parser.add_argument("--dry_run", action="store_true", help="print the plan, write nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset of that name")
    own = f"{dataset} only"
    for title, options in (("splits and storage", _COMMON), (own, builder.OPTIONS)):
        group = parser.add_argument_group(title)  # its title is not shown where it is empty
        for option in options:
            default = f" (default: {option.default})" if option.default != "" else ""
            group.add_argument(
                f"--{option.name}",
                type=type(option.default),
                # Own options that are not given are left to the protocol, if there is one.
                default=argparse.SUPPRESS if title == own else option.default,
                metavar="|".join(option.choices) or type(option.default).__name__.upper(),
                help=option.doc + default,
            )
    return parser


def _download(dataset: str, folder: Path) -> int:
    sources = builder_of(dataset).SOURCES
    if not any(source.url for source in sources):
        raise BadArgument(f"--download={folder}: {dataset} has no archive with a plain address")
    left = download_all(dataset, sources, folder)
    if left:
        print(instructions(dataset, builder_of(dataset).RAW, left))
    return 0


def _protocols(names: list[str]) -> str:
    """All protocols in a line each, or all about some of them."""
    protocols = [load_protocol(name) for name in names or protocol_names()]
    width = max(len(protocol.name) for protocol in protocols) + 2
    lines = []
    for protocol in protocols:
        where = f"({protocol.dataset})" if protocol.dataset else ""
        lines.append(f"  {protocol.name:{width}}{protocol.title} {where}".rstrip())
        if protocol.obstacle:
            lines.append(f"  {'':{width}}cannot be run: {protocol.obstacle}")
        if names:
            lines += _about(protocol)
    return "\n".join(lines)


def _about(protocol: Protocol) -> list[str]:
    counts = protocol.counts
    gallery = {name: n for name, n in counts.gallery.items() if n is not None}
    classes = f"{len(protocol.unseen or ())} unseen and {len(protocol.seen or ())} seen classes"
    shown = [f"{n:,} photos ({name})" for name, n in gallery.items()]
    if counts.queries is not None:
        shown.insert(0, f"{counts.queries:,} query sketches")
    lines = [f"source: {protocol.source}", classes, ", ".join(shown) or "counts are not known"]
    lines += [f"metrics: {protocol.metrics}", *protocol.notes]
    for row in protocol.published:
        numbers = ", ".join(f"{name} {value}" for name, value in row.items() if name != "method")
        lines.append(f"published: {row['method']}: {numbers}")
    return [f"    {line}" for line in lines]


def _overview() -> str:
    lines = ["Checks, splits and stores photos and sketches for training:"]
    lines += ["  python -m data_prep DATASET --raw=PATH --data_dir=DIR", ""]
    width = max(map(len, BUILDERS)) + 2
    for name, builder in BUILDERS.items():
        lines.append(f"  {name:{width}}{(builder.__doc__ or name).splitlines()[0]}")
        lines.append(f"{'':4}python -m data_prep {name} {builder.EXAMPLE}")
    lines += ["", "options of one dataset:       python -m data_prep DATASET --help"]
    lines += ["where its archives are:       python -m data_prep DATASET"]
    lines += ["protocols of the literature:  python -m data_prep protocols [NAME]"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
