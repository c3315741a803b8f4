"""szdnn compare: what it prints and writes, that its checks can fail, and its page as a browser shows it."""

import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from szdnn.baselines.base import Context
from szdnn.cli import main
from szdnn.comparison import page, run, table
from szdnn.comparison.bound import Source, entropy
from szdnn.comparison.plots import Axis
from szdnn.comparison.rows import errors_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def checkpoint():
    random = np.random.default_rng(0)
    return {
        "a.weight": random.normal(0, 0.1, (64, 50)).astype(np.float32),
        "a.bias": random.normal(0, 0.1, 64).astype(np.float32),
        "b.weight": random.laplace(0, 0.1, (30, 8, 3, 3)).astype(np.float32),
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(checkpoint(), path)
    return path


def compare(*arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_sizes_and_errors_without_a_task(file, tmp_path):
    done = compare(
        file, "--methods", "fp16,zstd,int4-group", "--methods", "szdnn-rel-1e-2", "--json", tmp_path / "out.json"
    )
    assert done.exit_code == 0, done.output
    assert "score" not in done.output
    data = json.loads((tmp_path / "out.json").read_text())
    rows = {row["method"]: row for row in data["rows"]}
    assert list(rows) == ["fp16", "zstd", "int4-group", "szdnn-rel-1e-2"]
    state = checkpoint()
    assert data["raw_bytes"] == sum(value.nbytes for value in state.values())
    for row in rows.values():
        assert row["decoded_ok"] is True
        assert row["score"] is None
        assert math.isclose(row["ratio"], data["raw_bytes"] / row["bytes"])
        assert [layer["layer"] for layer in row["layers"]] == ["a.weight", "b.weight"]
    assert rows["zstd"]["exact"]
    assert rows["zstd"]["largest"] == rows["zstd"]["relative"] == rows["zstd"]["rmse"] == 0
    assert not rows["fp16"]["exact"]
    assert rows["fp16"]["largest"] == max(
        np.abs(v - v.astype(np.float16)).max() for n, v in state.items() if "weight" in n
    )
    assert rows["fp16"]["bits"] == 16
    assert rows["fp16"]["layers_ratio"] == 2
    spans = {name: float(np.ptp(value)) for name, value in state.items()}
    for layer in rows["szdnn-rel-1e-2"]["layers"]:
        assert 0 < layer["largest"] <= 1.0001e-2 * spans[layer["layer"]]


def test_methods_that_choose_are_named_where_nothing_is_scored(file):
    done = compare(file, "--methods", "szdnn,fp16")
    assert done.exit_code == 0
    assert re.search(r"^szdnn: needs a --task or --eval", done.output, re.MULTILINE)
    assert re.search(r"^fp16 +\d+", done.output, re.MULTILINE)


def test_a_score_of_ones_own(file, tmp_path, monkeypatch):
    (tmp_path / "own_score.py").write_text(
        "import numpy as np\n"
        "first = None\n"
        "def score(state, split):\n"
        "    global first\n"
        "    assert split in ('search', 'report')\n"
        "    first = state if first is None else first\n"
        "    return 1 - float(np.abs(state['a.weight'] - first['a.weight']).max())\n"
        "def broken(state):\n"
        "    return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out.json"
    done = compare(file, "--eval", "own_score:score", "--budget", 2, "--methods", "int,szdnn,fp16", "--json", out)
    assert done.exit_code == 0, done.output
    rows = {row["method"]: row for row in json.loads(out.read_text())["rows"]}
    assert all(row["score_before"] == 1 for row in rows.values())
    for name in ("int", "szdnn"):
        assert 0.005 < 1 - rows[name]["score"] <= 0.02
    assert "own_score" in done.output.splitlines()[0]
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(main, ["compare", str(file), "--eval", "own_score:broken"], catch_exceptions=False)


def test_a_decoder_that_needs_more_than_the_bytes_is_found_out(file, tmp_path, monkeypatch):
    (tmp_path / "cheat.py").write_text(
        "from szdnn.baselines.base import Method, Artefact\n"
        "from szdnn.baselines.casts import FloatCast\n"
        "kept = {}\n"
        "class Cheat(FloatCast):\n"
        "    def fit(self, state, context):\n"
        "        kept['state'] = state\n"
        "        return super().fit(state, context)\n"
        "    @classmethod\n"
        "    def decode(cls, data):\n"
        "        return kept.get('state') or super().decode(data)\n"
        "class Renames(FloatCast):\n"
        "    @classmethod\n"
        "    def decode(cls, data):\n"
        "        return {'a' + name: value for name, value in super().decode(data).items()}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out.json"
    done = compare(file, "--methods", "cheat:Cheat,fp16", "--json", out)
    assert done.exit_code == 1
    assert "did not decode" in done.output
    rows = {row["method"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["fp16"]["decoded_ok"]
    assert rows["cheat:Cheat"]["decoded_ok"] is False
    done = compare(file, "--methods", "cheat:Renames", "--json", out)
    assert done.exit_code == 1
    rows = {row["method"]: row for row in json.loads(out.read_text())["rows"]}
    assert "names" in rows["cheat:Renames"]["problem"]


def test_missing_peers_are_named(file, monkeypatch):
    monkeypatch.delenv("SZDNN_NNCODEC_PYTHON", raising=False)
    for name in ("pysz", "zfpy", "zipnn"):
        monkeypatch.setitem(sys.modules, name, None)
    done = compare(file, "--methods", "peers,fp16")
    assert done.exit_code == 0
    for line in (
        "sz3: needs pysz",
        "zfp: needs zfpy",
        "zipnn: needs zipnn",
        "nncodec: needs nncodec in an environment",
    ):
        assert line in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "CHECKPOINT"),
        (["FILE", "--methods", "fp17"], 2, "no method 'fp17'"),
        (["FILE", "--methods", "int4:bits=3,speed=2"], 2, "settings bits, group"),
        (["FILE", "--task", "digit"], 2, "digits/lenet"),
        (["FILE", "--task", "digits", "--eval", "a:b"], 2, "either"),
        (["FILE", "--eval", "no_such_module:f"], 2, "no_such_module"),
        (["FILE", "--budget", "-1"], 2, "range"),
        (["missing.safetensors"], 1, "missing.safetensors"),
        (["FILE", "--methods", "fp16", "--json", "/no/such/folder/a.json"], 1, "/no/such/folder"),
    ],
)
def test_wrong_usage_is_told(file, arguments, code, message):
    done = compare(*(file if item == "FILE" else item for item in arguments))
    assert done.exit_code == code
    assert message in done.output


def test_words_of_methods():
    words = run.specifications(["lowrank:energy=0.9,dtype=float16,fp16", "zips", "lowrank:energy=0.5,bf16"])
    assert words[:2] == ["lowrank:energy=0.9,dtype=float16", "fp16"]
    assert words[-2:] == ["lowrank:energy=0.5", "bf16"]
    assert {"gzip", "xz"} < set(words)
    usual = run.specifications([])
    assert {"szdnn", "int8", "gzip"} < set(usual)
    assert not {"binary-trained", "szdnn-plan"} & set(usual)


def test_errors():
    x = np.array([1.0, -2.0, 0.0, 4.0, np.nan, np.inf])
    y = np.array([1.0, 0.0, 0.5, 5.0, np.nan, np.inf])
    errors = errors_of(x, y)
    assert (errors.largest, errors.relative) == (2, 1)  # what became zero: 100%
    assert math.isclose(errors.rmse, math.sqrt((4 + 0.25 + 1) / 4))
    assert errors_of(x, np.where(x == 1, np.nan, y)).largest == math.inf


def test_the_lower_bound():
    random = np.random.default_rng(0)
    normal = random.normal(0, 3, 200_000)
    assert abs(entropy(normal) - 0.5 * math.log2(2 * math.pi * math.e * 9)) < 0.01
    uniform = random.random(200_000)
    assert abs(entropy(uniform)) < 0.01
    source = Source.of(normal)
    for square in (9.0, 1.0, 0.01):
        assert abs(source.least_bits(square) - 0.5 * math.log2(9 / square)) < 0.01
    assert source.least_bits(0) == math.inf
    assert source.least_bits(20) == 0
    sparse = normal * (random.random(normal.size) < 0.1)
    for step in (0.5, 2.0, 4.0):  # no quantiser with an entropy coder is below it
        for values in (normal, sparse, random.laplace(0, 1, 200_000)):
            codes = np.rint(values / step)
            shares = np.unique(codes, return_counts=True)[1] / values.size
            rate = -(shares * np.log2(shares)).sum()
            assert Source.of(values).least_bits(float(np.mean((values - codes * step) ** 2))) <= rate + 1e-3
    assert Source.of(np.zeros(10)).least_bits(1.0) == 0


def test_axes():
    ticks = Axis.over([1, 40], 0, 100, log=True).ticks(6)
    assert [text for _, text in ticks] == ["1", "2", "5", "10", "20"]
    ticks = Axis.over([0.88, 0.98], 100, 0, log=False).ticks(5)
    assert all(len(text) == 4 for _, text in ticks)
    for values in ([5.0], [1.0, 1.0], [1e-9, 1e9]):
        for log in (False, True):
            axis = Axis.over(values, 0, 100, log)
            assert all(0 <= axis.place(value) <= 100 for value in values)
            axis.ticks(5)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison with scores, made up of a function that falls with the error."""
    state = checkpoint()

    def score(found, split):
        return 0.9 - 0.2 * float(np.mean([np.abs(found[n] - state[n]).mean() for n in state]))

    context = Context(budget=0.2, score=score)
    specs = run.specifications(["casts", "zips", "szdnn,szdnn-rel-1e-2,szdnn-lossless", "lowrank:energy=0.8"])
    specs = [spec for spec in specs if "trained" not in spec]
    *_, found = run.compare(state, specs, context, title="made up <b>")
    return found


def test_the_table_fits_the_terminal(compared):
    for width in (40, 80, 120):
        lines = table.text(compared, width).splitlines()
        rows = [line for line in lines if re.match(r"(fp16|szdnn|int8) ", line)]
        assert len(rows) == 3
        assert max(map(len, rows)) <= width
    assert "decoded" in table.text(compared, 80)


PROBE = """
const frame = document.createElement("iframe");
frame.style = "border:0;width:WIDTHpx;height:900px";
frame.srcdoc = PAGE;
frame.onload = () => {
  const d = frame.contentDocument, w = frame.contentWindow, shown = e => e.getClientRects().length > 0;
  const column = (table, i) => [...table.tBodies[0].rows].filter(shown).map(r => r.cells[i].textContent);
  const methods = d.getElementById("methods"), layers = d.getElementById("layers"), out = {};
  const texts = [...d.querySelectorAll("svg text")].filter(shown);
  out.overflow = d.documentElement.scrollWidth - w.innerWidth;
  out.smallest = Math.min(...texts.map(t => parseFloat(w.getComputedStyle(t).fontSize) *
  Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b))); out.plots = [...d.querySelectorAll("figure")].map(f =>
  [...f.querySelectorAll("svg")].filter(shown).map(
    s => s.querySelectorAll("circle[r='4'], path").length));
  out.outside = [...d.querySelectorAll("svg")].filter(shown).map(s => [...s.querySelectorAll("text")].filter(t => {
    const a = t.getBoundingClientRect(), b = s.getBoundingClientRect();
    return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
  }).length);
  out.before = column(methods, 0);
  methods.querySelectorAll("th button")[1].click();
  out.bytes = column(methods, 1).map(t => +t.replaceAll(",", ""));
  methods.querySelectorAll("th button")[1].click();
  out.bytesDown = column(methods, 1).map(t => +t.replaceAll(",", ""));
  methods.querySelectorAll("th button")[0].click();
  out.names = column(methods, 0);
  out.layers = column(layers, 0);
  const choice = d.getElementById("method");
  out.first = choice.value;
  choice.value = "fp16"; choice.dispatchEvent(new w.Event("change"));
  out.bits = column(layers, 3);
  out.paper = w.getComputedStyle(d.body).backgroundColor;
  out.ink = w.getComputedStyle(d.body).color;
  document.body.append(Object.assign(document.createElement("pre"), {id: "out", textContent: JSON.stringify(out)}));
};
document.body.append(frame);
"""


def chromium(folder, text, dark, *options):
    """Opens a page and returns its document, after its scripts have run."""
    path = folder / "probe.html"
    path.write_text(text)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--window-size=1500,1000", "--virtual-time-budget=4000"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", *options, path.as_uri()]
    # The sanitizers that may be preloaded here are not for the browser.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")
@pytest.mark.parametrize(("width", "dark"), [(400, True), (1400, False)])
def test_the_page_in_a_browser(compared, tmp_path, width, dark):
    text = json.dumps(page.page(compared)).replace("</", "<\\/")
    script = PROBE.replace("WIDTH", str(width)).replace("PAGE", text)
    document = chromium(tmp_path, f"<!doctype html><body><script>{script}</script></body>", dark, "--dump-dom")
    match = re.search(r'<pre id="out">(.*?)</pre>', document, re.DOTALL)
    assert match, document[-2000:]
    shown = json.loads(html.unescape(match[1]))
    done = [row for row in compared.rows if row.bytes is not None]
    assert shown["overflow"] <= 0  # the page does not scroll sideways, only its tables do
    assert shown["smallest"] >= 10
    assert shown["outside"] == [0, 0]
    lossy = [row for row in done if row.rmse]
    assert shown["plots"] == [[len(done)], [len(lossy)]]
    assert shown["before"] == [row.method for row in done]
    assert shown["bytes"] == sorted(row.bytes for row in done)
    assert shown["bytesDown"] == shown["bytes"][::-1]
    assert shown["names"] == sorted(shown["names"])
    assert shown["layers"] == ["a.weight", "b.weight"]
    assert shown["first"] == "szdnn"
    assert shown["bits"] == ["16.000", "16.000"]
    paper, ink = (sum(map(int, re.findall(r"\d+", shown[key])[:3])) for key in ("paper", "ink"))
    assert (paper < 100 < 500 < ink) if dark else (ink < 150 < 700 < paper)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")
def test_the_dots_are_on_the_screen(compared, tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    for dark, paper, blue in ((False, (255, 255, 255), (11, 87, 208)), (True, (20, 23, 27), (138, 180, 248))):
        picture = tmp_path / "page.png"
        chromium(tmp_path, page.page(compared), dark, f"--screenshot={picture}")
        pixels = np.asarray(image_module.open(picture).convert("RGB")).astype(int)
        assert tuple(pixels[2, 2]) == paper
        plots = pixels[80:600]
        dots = (np.abs(plots - blue).max(-1) <= 2).sum()
        ours = sum(row.family == "ours" for row in compared.rows)
        assert dots > 2 * ours * 30  # radius 4: 50 pixels each, some covered


def test_the_page_needs_nothing_else(compared):
    text = page.page(compared)
    assert "made up &lt;b&gt;" in text
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?://(?!www\.w3\.org)""", text)
