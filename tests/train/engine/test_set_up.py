"""How JAX is set up, what is kept that was compiled, and where arrays lie."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.engine import compiled, devices, placement
from train.errors import ConfigError


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """What JAX is told, instead of telling it."""
    values = {"jax_num_cpu_devices": -1, "jax_compilation_cache_dir": None}
    config = types.SimpleNamespace(values=values, update=values.__setitem__)
    fake = types.SimpleNamespace(config=config, devices=lambda: ["a device"])
    monkeypatch.setattr(devices, "jax", fake)
    for name in ("XLA_FLAGS", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return values


@pytest.mark.parametrize(("cores", "number"), [(2, 2), (8, 8), (9, 8), (None, 1)])
def test_each_core_is_a_device_up_to_eight(settings, monkeypatch, cores, number):
    monkeypatch.setattr(devices.os, "cpu_count", lambda: cores)
    devices.set_up()
    assert settings["jax_num_cpu_devices"] == number


def test_what_is_set_stays(settings, monkeypatch):
    settings |= {"jax_num_cpu_devices": 1, "jax_compilation_cache_dir": "mine"}
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "3")
    devices.set_up()
    assert settings == {"jax_num_cpu_devices": 1, "jax_compilation_cache_dir": "mine"}
    settings["jax_num_cpu_devices"] = -1
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    devices.set_up()
    assert settings["jax_num_cpu_devices"] == -1


def test_a_number_of_devices_that_is_none_is_chosen(settings, monkeypatch):
    settings["jax_num_cpu_devices"] = 0
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 3)
    devices.set_up()
    assert settings["jax_num_cpu_devices"] == 3


def test_what_is_compiled_is_kept_where_that_is_possible(settings, monkeypatch, tmp_path):
    devices.set_up()
    folder = tmp_path / "cache" / "jaxnets" / "compiled"
    assert settings["jax_compilation_cache_dir"] == str(folder)
    assert folder.is_dir()
    assert settings["jax_persistent_cache_min_compile_time_secs"] == 0
    devices.set_up()  # The folder is there.
    settings["jax_compilation_cache_dir"] = None
    monkeypatch.setattr(devices.os, "access", lambda *a: False)
    devices.set_up()
    assert settings["jax_compilation_cache_dir"] is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/none")
    devices.set_up()
    assert settings["jax_compilation_cache_dir"] is None


def test_without_xdg_cache_home_it_is_kept_in_the_home_folder(settings, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    devices.set_up()
    kept = str(tmp_path / ".cache" / "jaxnets" / "compiled")
    assert settings["jax_compilation_cache_dir"] == kept


def test_where_jax_runs_already_its_devices_stay(settings, monkeypatch):
    def running(name, value):
        if name == "jax_num_cpu_devices":
            raise RuntimeError("running already")
        settings[name] = value

    devices.jax.config.update = running
    devices.set_up()
    assert settings["jax_num_cpu_devices"] == -1


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError])
def test_a_platform_that_is_not_there_is_one_line(settings, monkeypatch, kind):
    assert devices.devices() == ["a device"]

    def missing():
        if settings.get("jax_platforms", "") is None:
            return [types.SimpleNamespace(platform="gpu")]
        raise kind("no\nplugin")

    devices.jax.devices = missing
    with pytest.raises(ConfigError, match=r"^JAX finds no device: no plugin$"):
        devices.devices()
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    with pytest.raises(ConfigError, match=r"^JAX_PLATFORMS=tpu: must be one of cpu, gpu here, or"):
        devices.devices()


# --- what is kept --------------------------------------------------------------------------------


@pytest.fixture
def empty(monkeypatch):
    monkeypatch.setattr(compiled, "_kept", type(compiled._kept)())


def test_what_is_kept_is_made_once(empty, monkeypatch):
    made = []

    def make(key):
        return compiled.kept(key, lambda: made.append(key) or key)

    monkeypatch.setattr(compiled, "MOST", 2)
    for key in "abacab":
        assert make(key) == key
    assert made == ["a", "b", "c", "b"]  # What was not used for longest goes first.
    compiled.forget_all()
    assert make("b") == "b"
    assert made[-1] == "b"
    assert compiled.kept("outer", lambda: compiled.kept("inner", lambda: 5)) == 5


def test_options_are_those_that_xla_knows(empty, monkeypatch):
    if jax.default_backend() == "cpu":
        assert compiled.quick(True).items() <= compiled._AT_ONCE.items()
        assert compiled.quick(False).items() <= compiled._SOON.items()
    assert not compiled._is_known("xla_no_such_option", True)
    assert compiled._is_known("xla_backend_optimization_level", 0)
    monkeypatch.setattr(compiled, "_is_known", lambda name, value: name != "xla_no_such_option")
    monkeypatch.setattr(compiled.jax, "default_backend", lambda: "cpu")
    monkeypatch.setitem(compiled._SOON, "xla_no_such_option", True)
    assert "xla_no_such_option" not in compiled.quick(False)
    monkeypatch.delitem(compiled._SOON, "xla_no_such_option")
    compiled.forget_all()
    # What takes long is left out: emitters of fused loops, every pass, parts that are put together.
    shared = {"xla_cpu_use_fusion_emitters": False}
    assert compiled.quick(True) == shared | {"xla_backend_optimization_level": 0}
    assert compiled.quick(False) == shared | {"xla_cpu_parallel_codegen_split_count": 1}
    monkeypatch.setattr(compiled.jax, "default_backend", lambda: "gpu")
    assert compiled.quick(True) == {}


# --- where arrays lie ----------------------------------------------------------------------------


def test_arrays_and_keys_come_back_to_the_host():
    keys = jax.random.split(jax.random.key(3), 2)
    found = placement.on_host({"x": jnp.arange(3), "key": keys, "own": np.ones(2)})
    assert isinstance(found["x"], np.ndarray)
    assert found["x"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found["key"], jax.random.key_data(keys))
    assert [placement.is_key(leaf) for leaf in (keys, jnp.ones(2), np.ones(2))] == [1, 0, 0]
    assert placement.here(jnp.ones(2))
    assert placement.here(np.ones(2))
    assert not placement.here(types.SimpleNamespace(is_fully_addressable=False))


def test_what_lies_elsewhere_is_fetched_from_all(monkeypatch):
    asked = []

    class Far:
        is_fully_addressable, is_fully_replicated, dtype = False, False, np.dtype(float)

        def __array__(self, dtype=None, copy=None):
            return np.zeros(2)

    def gather(leaf, tiled):
        asked.append(tiled)
        return np.ones(4)

    monkeypatch.setattr("jax.experimental.multihost_utils.process_allgather", gather)
    far = Far()
    assert placement.on_host([far])[0].tolist() == [1] * 4
    assert asked == [True]
    far.is_fully_replicated = True
    assert placement.on_host([far])[0].tolist() == [0, 0]


def test_arrays_are_put_where_the_sharding_says():
    four = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[-1])
    for sharding in (None, four):
        found = placement.placed({"x": np.arange(4.0)}, sharding)["x"]
        assert found.tolist() == [0, 1, 2, 3]
        part = placement.assembled((4,), sharding, np.arange(4.0).__getitem__)
        assert part.tolist() == [0, 1, 2, 3]
        if sharding is not None:
            assert found.sharding == part.sharding == sharding


def test_each_process_puts_its_own_parts(monkeypatch):
    mesh = jax.make_mesh((4,), ("rows",), (jax.sharding.AxisType.Auto,), devices=jax.devices("cpu"))
    own = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))

    class Several:
        """A sharding over several processes, of which this one has all devices."""

        is_fully_addressable = False

    asked = []
    monkeypatch.setattr(
        placement, "assembled",
        lambda shape, sharding, part: asked.append(shape) or jax.device_put(part(slice(None)), own),
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(0), 4)
    found = placement.placed({"x": np.arange(4.0), "key": keys}, Several())
    assert asked == [(4, 2), (4,)]
    assert found["x"].tolist() == [0, 1, 2, 3]
    assert placement.is_key(found["key"])
    np.testing.assert_array_equal(jax.random.key_data(found["key"]), jax.random.key_data(keys))
