"""Command line of the benches: finds the command's module and hands over to it."""

from __future__ import annotations

import argparse
import importlib
import sys

# Each command is a module of this package with configure(parser) and run(args) -> exit code.
COMMANDS = {
    "weights": "size and speed on pretrained networks, against the rivals",
    "lossless": "lossless ratios on the networks as float32, bfloat16 and float16, and their floor",
    "sparse": "zeros, constants, repetition and many small tensors, next to their ideal codes",
    "pointwise": "pointwise relative bounds on real optimizer state, against the rivals",
    "threads": "what two threads gain on one tensor, next to what two processes reach",
    "instructions": "instructions a value and source file of the C core, under valgrind",
    "fields": "size and speed on scientific arrays, against the rivals",
    "halves": "float16 and bfloat16 near their own precision, beside float32 and lossless frames",
    "selection": "the automatic choice of predictor against every single one, and the time it takes",
    "checkpoints": "compress and decompress real checkpoints from the command line, every value checked",
    "deltas": "a chain of checkpoints and a fine-tuned model as differences, against the rivals",
    "resume": "training resumed from lossy checkpoints against exact ones",
    "learned": "bounds learned by gradient descent against the default method of szdnn.tune, weights frozen",
    "train": "networks trained for size by szdnn.tune: ratio of the whole archive at the error allowed",
    "tune": "tuned plans against one bound for all, DeepSZ and NNCodec, at equal distance of the outputs",
    "soak": "random and adversarial arrays, each value checked against its bound",
    "fuzz": "the core and the archive reader under a coverage-guided fuzzer with sanitizers",
    "bitrot": "random single and burst errors in frames and archives: is every one detected?",
    "platforms": "the same frames and values on other processors, big-endian too, and by the reference decoder?",
    "races": "64 threads over the same arrays and archives: the core under ThreadSanitizer, and Python",
    "trust": "all campaigns of damage and abuse, the rivals beside, for the README",
    "kill": "kills saves at random moments: is the old or the new archive there, whole, each time?",
    "memory": "peak memory of compressing and restoring a large checkpoint",
    "seeds": "the papers' results again: Deep Compression and universal compression, every stage beside theirs",
    "compare": "the published methods, casts, zips and szdnn on the built-in tasks: sizes, errors, scores",
    "huffman": "Huffman beside zip, gzip, bzip2, xz and zstd on the same quantised integers",
    "inference": "pruned fully connected layers at batch 1: sparse rows against dense BLAS",
    "lazy": "models loaded lazily beside eagerly: peak memory and latency",
    "transfer": "fine-tuning on a second task from the compressed network and from the uncompressed one",
    "readme": "rewrites the README tables from bench/results",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; modules are imported only for the command that is asked for."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if argv[:1] == [name]:
            importlib.import_module(f"bench.{name}").configure(command)
    args = parser.parse_args(argv)
    try:
        code: int = importlib.import_module(f"bench.{args.command}").run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
