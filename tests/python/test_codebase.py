"""Rules that no compiler checks: which layer may know which, what the library never does, what documents promise."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"build", "dist", "__pycache__", ".venv"}
TEXT = {
    "",
    ".py",
    ".pyi",
    ".cpp",
    ".hpp",
    ".cmake",
    ".txt",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".sh",
    ".supp",
}


def files(*suffixes: str, under: str = ".") -> list[Path]:
    """The source tree's files with one of the suffixes, generated folders and hidden caches left out."""
    found = []
    for folder, folders, names in os.walk(ROOT / under):
        hidden_but_ours = {".ci", ".github"}
        folders[:] = [f for f in folders if f in hidden_but_ours or not (f in GENERATED or f.startswith("."))]
        folders[:] = [f for f in folders if not f.endswith(".egg-info")]
        found += [Path(folder) / name for name in names if Path(name).suffix in suffixes]
    return sorted(found)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def matches(pattern: re.Pattern[str], text: str, path: Path) -> list[str]:
    """`file:line: text` of each match: what a failing test shows."""
    return [
        f"{relative(path)}:{text.count(chr(10), 0, m.start()) + 1}: {m.group().strip()}" for m in pattern.finditer(text)
    ]


# --- C++ ------------------------------------------------------------------------------------------------------------

CPP = files(".cpp", ".hpp", ".cu", ".cuh", under="cpp")
TOKENS = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)

# The layer of each file, by the longest prefix, and the layers that it may include besides its own.
LAYERS = {
    "cpp/include/swiftdet/base/": "base",
    "cpp/src/base/": "base",
    "cpp/src/cpu/": "cpu",
    "cpp/include/swiftdet/cuda/": "cuda",
    "cpp/src/cuda/": "cuda",
    "cpp/include/swiftdet/ops/": "ops",
    "cpp/src/ops/": "ops",
    "cpp/include/swiftdet/backend.hpp": "engine contract",
    "cpp/include/swiftdet/gpu_engine.hpp": "engine contract",
    "cpp/include/swiftdet/openvino.hpp": "backends",
    "cpp/include/swiftdet/tensorrt.hpp": "backends",
    "cpp/src/backends/": "backends",
    "cpp/include/swiftdet/detector.hpp": "detector",
    "cpp/include/swiftdet/session_counts.hpp": "detector",
    "cpp/include/swiftdet/gpu_detector.hpp": "detector",
    "cpp/src/detector/": "detector",
}
MAY_INCLUDE = {
    "base": set(),
    "cpu": {"base"},
    "cuda": {"base"},
    "ops": {"base", "cpu", "cuda"},
    "engine contract": {"base", "cuda"},
    "backends": {"base", "cuda", "engine contract"},
    "detector": {"base", "cpu", "cuda", "ops", "engine contract", "backends"},
}


def layer(name: str) -> str | None:
    fitting = [prefix for prefix in LAYERS if name.startswith(prefix)]
    return LAYERS[max(fitting, key=len)] if fitting else None


def without_comments_and_strings(text: str) -> str:
    """The code alone, with every line where it was."""
    return TOKENS.sub(lambda m: "\n" * m.group().count("\n"), text)


def own_includes(path: Path) -> Iterator[str]:
    """Repository paths of the files of ours that a C++ file includes."""
    for _, name in INCLUDE.findall(path.read_text()):
        for folder in (path.parent, ROOT / "cpp/include", ROOT / "cpp/src"):
            if (folder / name).is_file():
                yield relative((folder / name).resolve())
                break


def test_the_walk_finds_the_sources():
    assert {"cpp/include/swiftdet/detector.hpp", "cpp/src/detector/detector.cpp"} <= {relative(p) for p in CPP}


@pytest.mark.parametrize("path", CPP, ids=relative)
def test_cpp_includes_follow_the_arrows(path):
    own = layer(relative(path))
    assert own is not None, "a new place in cpp/: give it a layer in LAYERS and in docs/architecture.md"
    for included in own_includes(path):
        other = layer(included)
        assert other == own or other in MAY_INCLUDE[own], f"layer {own!r} must not know layer {other!r} ({included})"


def test_the_arrows_refuse_what_they_should():
    assert "ops" not in MAY_INCLUDE["backends"]
    assert "backends" not in MAY_INCLUDE["ops"]
    assert layer("cpp/src/detector/detector.cpp") == "detector"
    assert layer("cpp/src/new/thing.cpp") is None
    path = ROOT / "cpp/include/swiftdet/detector.hpp"
    assert "cpp/include/swiftdet/backend.hpp" in set(own_includes(path))


@pytest.mark.parametrize("path", CPP, ids=relative)
def test_the_core_knows_no_python(path):
    foreign = [name for _, name in INCLUDE.findall(path.read_text()) if re.match(r"Python\.h|pybind11/|numpy/", name)]
    assert foreign == []


@pytest.mark.parametrize("path", files(".hpp", under="cpp/include"), ids=relative)
def test_public_headers_are_neutral(path):
    if path.parent.name == "cuda":
        return  # what these folders hold is CUDA's, by name
    text = path.read_text()
    foreign = [
        n for k, n in INCLUDE.findall(text) if k == "<" and re.match(r"openvino/|cuda|Nv|tensorrt", n, re.IGNORECASE)
    ]
    assert foreign == [], "a public header includes an engine's header"
    assert "SWIFTDET_WITH_" not in text, "a public header depends on how it was built"


NEVER_IN_THE_CORE = re.compile(
    r"\bstd::(?:cout|cerr|clog)\b|#\s*include\s*<iostream>"
    r"|(?<![\w.>])(?:std::)?(?:printf|fprintf|vprintf|puts|putchar|perror"
    r"|abort|exit|_exit|quick_exit|terminate)\s*\("
)


@pytest.mark.parametrize("path", [*CPP, *files(".cpp", ".hpp", under="src")], ids=relative)
def test_the_core_never_prints_nor_ends_the_process(path):
    code = without_comments_and_strings(path.read_text())
    assert matches(NEVER_IN_THE_CORE, code, path) == []


def test_the_rule_against_printing_can_fail():
    bad = [
        "std::cout << 1;",
        "printf(x);",
        "std::fprintf(f, x);",
        "std::abort();",
        "exit (1);",
        "std::terminate();",
    ]
    good = ["snprintf(b, n, f);", "on_exit(f);", "loop.exit();", "exit_code = 1;"]
    assert all(NEVER_IN_THE_CORE.search(code) for code in bad)
    assert not any(NEVER_IN_THE_CORE.search(code) for code in good)


# An inline function of the standard library, compiled with -mavx2, may be the copy that the linker keeps for all.
STD_WITHOUT_CODE = {
    "ptrdiff_t",
    "size_t",
    *(f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


@pytest.mark.parametrize("path", files(".cpp", under="cpp/src") or [None], ids=lambda p: p and relative(p))
def test_simd_files_emit_no_shared_inline_function(path):
    if not path.stem.endswith(("_avx2", "_avx512")):
        return
    used = set(re.findall(r"\bstd::(\w+)", without_comments_and_strings(path.read_text())))
    assert used <= STD_WITHOUT_CODE


BAD_FLAGS = re.compile(r"-ffast-math|-Ofast|-march=native|-mtune=native|--use_fast_math|-ffinite-math-only|fast-math\"")


@pytest.mark.parametrize("path", [*files(".cmake", ".txt", ".json", ".toml", ".sh"), *CPP], ids=relative)
def test_no_flag_that_changes_results_or_ties_the_build_to_one_machine(path):
    text = path.read_text()
    if path.suffix not in {".json", ".cpp", ".hpp"}:
        text = re.sub(r"#[^\n]*", "", text)
    assert matches(BAD_FLAGS, text, path) == []


# --- Python ---------------------------------------------------------------------------------------------------------

PACKAGE = ROOT / "python/swiftdet"
MODULES = files(".py", under="python/swiftdet")
MAY_IMPORT_CORE = re.compile(r"__init__|ops(\..*)?|engines(\..*)?|detector|doctor")
# What a module may import of the package, where that is less than everything but the CLI.
MAY_IMPORT = {
    "errors": set(),
    "spec": {"errors"},
    "checks": {"errors", "spec"},
    "tiff_files": {"errors"},
    "image_files": {"errors", "tiff_files"},
    "frames": set(),
    "images": {"device_images", "errors", "frames", "image_files"},
    "drawing": {"errors"},
    "boxes": {"errors"},
    "device_images": {"errors"},
    "results": {"boxes", "device_images", "errors", "frames", "images", "drawing"},
    "sources": {"sources.expansion", "sources.pipeline"},
    "sources.expansion": {"checks", "errors", "image_files", "sources.pyav"},
    "sources.pyav": {"errors"},
    "sources.videos": {"errors", "frames", "images", "sources.expansion", "sources.pyav"},
    "sources.pipeline": {"checks", "errors", "results", "sources.expansion", "sources.videos"},
    "video_writer": {"errors", "images", "sources.pyav"},
    # What is compared is arrays, and what is compared with is numbers: both are tested without a detector.
    "verification.matching": set(),
    "verification.comparison": {"verification.matching"},
    "verification.figures": {"verification.comparison", "verification.gates", "verification.matching"},
    "verification.gates": {"checks", "errors"},
    "verification.worst": {"verification.comparison"},
    "verification.pictures": {"drawing", "verification.comparison", "verification.matching"},
    # A dispatcher's policy knows neither threads nor detectors, so that it can be tested without them.
    "dispatch.lanes": set(),
    "dispatch.idle_threads": set(),
    "dispatch.service_time": set(),
    "dispatch.queue_policy": {"dispatch.lanes"},
    "dispatch.request": {"results"},
    "dispatch.alarms": {"dispatch.request"},
    "dispatch.statistics": set(),
    "dispatch.target": {"detector", "device_images", "errors", "results"},
    "dispatch.run": {"dispatch.target", "results"},
    # What is computed from predictions knows neither detectors nor threads.
    # A comparison is made of documents: no detector is needed to read one.
    "comparison.columns": set(),
    "comparison.published_tables": {"comparison.columns", "zoo"},
    "comparison.notes": {"comparison.published_tables"},
    "comparison.rows": {
        "comparison.columns",
        "comparison.published_tables",
        "demo",
        "errors",
        "measurements",
        "model_files.names",
        "zoo",
    },
    "comparison.tables": {
        "comparison.columns",
        "comparison.notes",
        "comparison.published_tables",
        "comparison.rows",
        "model_files.names",
        "zoo",
    },
    "comparison.stages": {"comparison.columns", "comparison.rows", "comparison.tables"},
    "comparison.verifications": {"comparison.rows"},
    "comparison.panels": {
        "comparison.columns",
        "comparison.notes",
        "comparison.published_tables",
        "comparison.rows",
        "comparison.tables",
        "zoo",
    },
    "comparison.drawing": {"comparison.panels"},
    "comparison.csv_file": {"comparison.columns", "comparison.published_tables", "comparison.rows", "zoo"},
    "comparison.schedule": set(),
    "evaluation.protocols": {"errors", "spec"},
    "evaluation.dataset": {"errors", "image_files"},
    "evaluation.predictions": set(),
    "evaluation.partial_file": {"errors", "evaluation.predictions"},
    "evaluation.rectangular": {"errors", "evaluation.protocols", "images", "ops"},
    "evaluation.bootstrap": set(),
    "evaluation.coco": {"evaluation.bootstrap"},
    "evaluation.confusion": {"evaluation.predictions"},
    "evaluation.examples": {"drawing", "evaluation.confusion", "images"},
    "evaluation.plots": {"evaluation.coco", "evaluation.confusion", "whole_files"},
    # Loops and figures know no detector, so that they can be tested with one that sleeps where a test says.
    "benchmarking.statistics": set(),
    "benchmarking.stages": {"results"},
    "benchmarking.calls": {"benchmarking.stages", "images"},
    "benchmarking.loops": {"benchmarking.calls"},
    "benchmarking.gpu_watch": {"cuda_devices", "errors"},
    "benchmarking.interference": {"benchmarking.gpu_watch"},
    "benchmarking.notes": {"benchmarking.statistics"},
    "benchmarking.workload": {"demo", "errors", "image_files", "images", "sources"},
}
# Importing openvino has side effects (its library is only found and loaded); the rest executes what it reads, or
# reaches for the network, or is a test's reference.
NEVER_IMPORTED = {
    "cv2", "http", "marshal", "openvino", "pickle", "requests", "shelve", "socket", "torch", "ultralytics", "urllib"
}  # fmt: skip
OPTIONAL = {"av", "onnxruntime", "prometheus_client", "pynvml", "supervision", "tensorrt", "cuda"}


def module_name(path: Path) -> str:
    """`engines.openvino` for python/swiftdet/engines/openvino.py; a package goes by its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Absolute dotted names that a module imports: `from swiftdet import _core` gives `swiftdet._core`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports inside the package are absolute"
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def package_imports(tree: ast.AST) -> set[str]:
    """Modules of the package, without its name, that a module imports."""
    found = set()
    for name, _ in imports(tree):
        parts = name.split(".")
        if parts[0] != "swiftdet":
            continue
        candidate = PACKAGE.joinpath(*parts[1:])
        is_module = candidate.with_suffix(".py").is_file() or candidate.is_dir() or parts[-1] in {"_core", "_cuda"}
        found.add(".".join(parts[1:] if is_module else parts[1:-1]) or "__init__")
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_python_imports_follow_the_arrows(path):
    name = module_name(path)
    used = package_imports(ast.parse(path.read_text()))
    if "_core" in used or any(n.startswith("_core.") for n in used):
        assert MAY_IMPORT_CORE.fullmatch(name), "only the boundary modules import _core (docs/architecture.md)"
    if "_cuda" in used:
        assert name == "engines.tensorrt.running", "the CUDA part may be missing: it is asked for in one place"
    if name in MAY_IMPORT:
        assert used <= MAY_IMPORT[name]
    if not name.startswith("cli") and name != "__main__":
        assert not any(n == "cli" or n.startswith("cli.") for n in used), "the CLI is the outermost layer"
        if not name.startswith("benchmarking") and name != "__init__":
            assert not any(n.startswith("benchmarking") for n in used), "only the CLI uses what it measures"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_unsafe_or_optional_is_imported(path):
    tree = ast.parse(path.read_text())
    top_level = set(tree.body)
    for name, statement in imports(tree):
        root = name.split(".")[0]
        assert root not in NEVER_IMPORTED, f"line {statement.lineno}: import {name}"
        assert not (root in OPTIONAL and statement in top_level), f"line {statement.lineno}: {name} is an extra"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_the_cli_prints_or_exits(path):
    if module_name(path).startswith("cli") or path.name == "__main__.py":
        return
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    names = {ast.unparse(function) for function in calls}
    assert not names & {
        "print",
        "exit",
        "quit",
        "sys.exit",
        "os._exit",
        "os.abort",
        "breakpoint",
        "eval",
        "exec",
    }


def test_dependencies_are_those_that_the_package_imports():
    """Each is imported by the package, save the engine's wheel, whose library is loaded; and no other is."""
    distributions = {"PIL": "pillow", "google": "onnx"}  # protobuf's own classes, a dependency of onnx
    used = {name.split(".")[0] for path in MODULES for name, _ in imports(ast.parse(path.read_text()))}
    used -= {*sys.stdlib_module_names, "swiftdet", "typing_extensions", *OPTIONAL}
    listed = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    declared = set(re.findall(r'"([A-Za-z0-9_-]+)', listed[1]))
    assert declared == {distributions.get(name, name) for name in used} | {"openvino"}


def test_importing_the_package_loads_nothing_slow(run_python):
    """`onnx` is for reading a model, Rich and Typer are for the command line, an engine is for its own use."""
    slow = [
        "onnx",
        "google.protobuf",
        "rich",
        "typer",
        "click",
        "onnxruntime",
        "openvino",
        "supervision",
        "jinja2",
        "jsonschema",
        "pycocotools",
        "asyncio",
        "av",
        "jsonschema",
        "matplotlib",
        "psutil",
        "pycocotools",
    ]
    loaded = run_python(f"import sys, swiftdet; print([name for name in {slow!r} if name in sys.modules])")
    assert loaded.strip() == "[]"


# --- Everything -----------------------------------------------------------------------------------------------------

ALL_TEXT = files(*TEXT)
# Packages come from wherever the user's pip and apt look; the options that choose a place, in two halves each.
REGISTRY = re.compile(r"(?:index-|find-li)(?:url|nks)\b|trusted-h" r"ost\b|\bPIP_(?:EXTRA_)?INDEX_")
SUPPRESSION = {
    "type: ignore names its code": re.compile(r"#\s*type:\s*ignore(?!\[[\w, -]+\])"),
    "noqa names its rule": re.compile(r"#\s*noqa(?!: [A-Z]+\d+)"),
    "NOLINT names its check": re.compile(r"NOLINT(?:NEXTLINE|BEGIN|END)?\b(?!\([\w.,* -]+\))"),
}


@pytest.mark.parametrize("path", ALL_TEXT, ids=relative)
def test_no_registry_is_chosen(path):
    assert matches(REGISTRY, path.read_text(), path) == []


@pytest.mark.parametrize("path", files(".py", ".cpp", ".hpp", ".cu", ".cuh"), ids=relative)
def test_a_suppression_names_its_rule(path):
    if path == Path(__file__).resolve():
        return
    for rule, pattern in SUPPRESSION.items():
        assert matches(pattern, path.read_text(), path) == [], rule


@pytest.mark.parametrize("path", files(".py", ".cpp", ".hpp", ".cu", ".cuh", ".cmake"), ids=relative)
def test_no_work_is_left_to_do(path):
    pattern = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b(?!\(#\d+\))")
    assert matches(pattern, path.read_text(), path) == [], "finish it, or name the issue: (#12)"


# --- Documents ------------------------------------------------------------------------------------------------------

MARKDOWN = files(".md")
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")


def prose(text: str) -> str:
    """A document without its code blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text: str) -> set[str]:
    """The fragment of each heading, made as the hosting sites make it."""
    headings = re.findall(
        r"^#+\s+(.+?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", MARKDOWN, ids=relative)
def test_links_resolve(path):
    for match in LINK.finditer(prose(path.read_text())):
        target = match.group(1) or match.group(2)
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{relative(path)}: {target}"
        assert ROOT in [linked, *linked.parents], f"{relative(path)}: {target} leaves the repository"
        if fragment and linked.suffix == ".md":
            assert fragment in anchors(linked.read_text()), f"{relative(path)}: {target} has no such heading"


def test_environment_variables_are_documented_and_real():
    sources = [*CPP, *files(".cpp", ".hpp", under="src"), *files(".cpp", ".hpp", under="tests"), *files(".py")]
    scripts = [*files(".sh"), ROOT / ".ci/run"]
    quoted = re.compile(r"[\"'](SWIFTDET_[A-Z_]*[A-Z])[\"']")
    in_shell = re.compile(r"(?:\$\{?|^\s*)(SWIFTDET_[A-Z_]*[A-Z])(?:[:}/]|=)", re.MULTILINE)
    used = {name for path in sources for name in quoted.findall(path.read_text())}
    used |= {name for path in scripts for name in in_shell.findall(path.read_text())}
    documented = set(re.findall(r"^\| `(SWIFTDET_[A-Z_]+)`", (ROOT / "docs/environment.md").read_text(), re.MULTILINE))
    assert {"SWIFTDET_FORCE_ISA", "SWIFTDET_BENCH_VENV"} <= used, "the patterns find too little"
    assert used <= documented
    mentioned = "".join(path.read_text() for path in [*sources, *scripts])
    assert {name for name in documented if name not in mentioned} == set()


def test_every_error_is_documented():
    tree = ast.parse((PACKAGE / "errors.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
    assert documented == classes


def test_the_changelog_has_this_version_or_an_unreleased_section():
    assert re.search(r"^## \[?Unreleased\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
