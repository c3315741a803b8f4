"""Lazily loaded models: the outputs of eager ones bit for bit, within the budget; misuse is refused."""

import copy
import gc
import pickle
import threading
import weakref

import pytest

import szdnn
from szdnn.errors import ArchiveError, ArgumentError, CorruptFrame
from szdnn.integrations import lazy_load

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


class Net(nn.Module):
    """Convolutions, batch norm, attention, an embedding tied to the head, a recurrent layer, a weight used by
    slices.
    """

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(300, 32)
        self.conv = nn.Conv1d(32, 64, 3, padding=1)
        self.norm = nn.BatchNorm1d(64)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.lstm = nn.LSTM(64, 32, batch_first=True)
        self.positions = nn.Parameter(torch.randn(128, 32))
        self.dense = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 32, dtype=torch.float32))
        self.head = nn.Linear(32, 300, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, ids):
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        x = self.norm(self.conv(x.transpose(1, 2))).transpose(1, 2)
        x = self.lstm(self.attention(x, x, x)[0])[0]
        x = self.scale * self.dense(x)
        return F.linear(x, self.head.weight)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    model = Net().eval()
    model.norm.running_mean += 0.1
    path = tmp_path_factory.mktemp("lazy") / "net.szd.safetensors"
    szdnn.save(path, {"model": model.state_dict(), "epoch": 3}, szdnn.Rel(1e-2))
    eager = Net().eval()
    eager.load_state_dict(szdnn.load(path)["model"])
    ids = torch.randint(300, (5, 20))
    return path, ids, eager(ids).detach()


TOTAL = 38_400 + 24_576 + 49_152 + 16_384 + 16_384 + 32_768 + 32_768  # bytes of what is lazy


@pytest.mark.parametrize("budget", [0, 33_000, 100_000, 1 << 30])
@pytest.mark.parametrize("meta", [False, True])
def test_outputs_are_the_eager_ones_bit_for_bit(saved, budget, meta):
    path, ids, expected = saved
    if meta:
        with torch.device("meta"):
            model = Net().eval()
        model.scale = torch.tensor(2.0)
    else:
        model = Net().eval()
    with lazy_load(model, path, budget_bytes=budget, key="model") as weights:
        for _ in range(3):
            assert torch.equal(model(ids), expected)
            assert weights.resident_bytes <= budget
        if budget > TOTAL:
            assert weights.resident_bytes == TOTAL
            assert weights.decoded == 7  # each once; the tied weight too
        if budget == 0:
            assert weights.resident_bytes == 0
            assert weights.reused == 0


def test_the_least_recently_used_goes_first(tmp_path):
    model = nn.ModuleDict({name: nn.Linear(64, 32, bias=False) for name in "abc"})
    szdnn.save(tmp_path / "m.szd.safetensors", model.state_dict(), szdnn.Lossless())
    x = torch.ones(1, 64)
    with lazy_load(model, tmp_path / "m.szd.safetensors", budget_bytes=2 * 64 * 32 * 4) as weights:
        for names, decoded, reused in (("ab", 2, 0), ("ab", 2, 2), ("a", 2, 3), ("c", 3, 3), ("a", 3, 4), ("b", 4, 4)):
            for name in names:
                model[name](x)
            assert (weights.decoded, weights.reused) == (decoded, reused)


def test_dropped_weights_free_their_memory(saved):
    path, ids, _ = saved
    model = Net().eval()
    with lazy_load(model, path, budget_bytes=33_000, key="model"):
        kept = weakref.ref(model.dense[0].weight)
        assert kept() is model.dense[0].weight
        model(ids)  # its last large weight that fits into the budget is another
        gc.collect()
        assert kept() is None


def test_what_iterates_over_parameters_sees_them_all(saved):
    path, _, _ = saved
    model, eager = Net(), szdnn.load(path)["model"]
    with lazy_load(model, path, key="model", budget_bytes=0):
        state = model.state_dict()
        assert state.keys() == eager.keys()
        assert all(torch.equal(state[name], eager[name]) for name in eager)
        assert sum(p.numel() for p in model.parameters()) > 0
        assert not any(p.requires_grad for p in model.parameters())


def test_a_safetensors_archive_and_one_in_memory(tmp_path):
    model = nn.Sequential(nn.Linear(40, 60), nn.Linear(60, 3)).eval()
    from safetensors.torch import save_file

    save_file(model.state_dict(), tmp_path / "m.safetensors")
    x = torch.ones(2, 40)
    data = szdnn.dumps(model.state_dict(), szdnn.Rel(1e-3))
    with szdnn.Archive(memoryview(data)) as archive:
        eager = copy.deepcopy(model)
        eager.load_state_dict(szdnn.loads(data))
        lazy = nn.Sequential(nn.Linear(40, 60), nn.Linear(60, 3)).eval()
        with lazy_load(lazy, archive):
            assert torch.equal(lazy(x), eager(x))
        assert list(archive)  # it was not ours to close


def test_half_precision_models_get_their_dtype(tmp_path):
    model = nn.Linear(64, 64).eval()
    path = tmp_path / "m.szd.safetensors"
    szdnn.save(path, model.state_dict(), szdnn.Lossless())
    half = nn.Linear(64, 64).to(torch.bfloat16).eval()
    with lazy_load(half, path):
        x = torch.ones(1, 64, dtype=torch.bfloat16)
        assert torch.equal(half(x), model.to(torch.bfloat16)(x))


def test_many_threads(saved):
    path, ids, expected = saved
    model = Net().eval()
    failures = []
    with lazy_load(model, path, budget_bytes=50_000, key="model"):

        def work():
            for _ in range(5):
                if not torch.equal(model(ids), expected):
                    failures.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_misuse_is_refused(saved, tmp_path):
    path, ids, _ = saved
    model = Net().eval()
    weights = lazy_load(model, path, key="model")
    for wrong in (
        lambda: model.half(),
        lambda: model.dense.to("meta"),
        lambda: model.load_state_dict(szdnn.load(path)["model"]),
        lambda: pickle.dumps(model),
        lambda: copy.deepcopy(model),
    ):
        with pytest.raises(ArgumentError, match="lazily loaded"):
            wrong()
    weights.close()
    weights.close()
    with pytest.raises(ArchiveError, match="closed"):
        model(ids)
    before = copy.deepcopy(Net())
    for wrong, message in (
        (lambda m: lazy_load(m, path), "key"),
        (lambda m: lazy_load(m, path, key="epoch"), "no state_dict under 'epoch'"),
        (lambda m: lazy_load(m.dense, path, key="model"), "the archive has no '0.weight'"),
        (lambda m: lazy_load(m, path, key="model", budget_bytes=-1), "budget_bytes"),
    ):
        with pytest.raises(ArgumentError, match=message):
            wrong(before)
    larger = Net()
    larger.extra = nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match=r"no 'extra\.weight'"):
        lazy_load(larger, path, key="model")
    larger = Net()
    larger.dense[0] = nn.Linear(32, 250)
    with pytest.raises(ArgumentError, match=r"dense\.0\.weight"):
        lazy_load(larger, path, key="model")
    larger.dense[0] = nn.Linear(32, 256)
    larger(ids)  # nothing was changed
    with torch.device("meta"):
        meta = Net()
    with pytest.raises(ArgumentError, match="scale"):
        lazy_load(meta, path, key="model")


def test_damage_is_found_when_a_weight_is_used(tmp_path):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval()
    path = tmp_path / "m.szd.safetensors"
    szdnn.save(path, model.state_dict(), szdnn.Rel(1e-3))
    data = bytearray(path.read_bytes())
    place = len(data) - 400
    data[place] ^= 1  # in the last frame
    path.write_bytes(data)
    with pytest.raises((CorruptFrame, ArchiveError)), lazy_load(model, path):
        model(torch.ones(1, 64))
