"""runtime: MXNet gets its cores, and AMX only where that is safe; test_surroundings.py has NumPy and Python."""
import errno
import os

import numpy as np
import pytest
import stock_mxnet
from gluon_compress import runtime
from gluon_compress.runtime import cgroups, onednn, threads

SILENT = {"OMP_NUM_THREADS": None, "MXNET_OMP_MAX_THREADS": None, "OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": None,
          "DNNL_MAX_CPU_ISA": None, "ONEDNN_MAX_CPU_ISA": None, "GLUON_COMPRESS_RUNTIME": None,
          "DNNL_PRIMITIVE_CACHE_CAPACITY": None, "GLUON_COMPRESS_WAITING": None}
AMX_CPU = "processor\t: 0\nflags\t\t: fpu sse avx512f amx_bf16 amx_tile amx_int8\n"
PLAIN_CPU = "processor\t: 0\nflags\t\t: fpu sse avx512f\n"
# what OpenMP itself says, as the library that MXNet is linked with sees it
OPENMP_THREADS = "print(mxnet.base._LIB.omp_get_max_threads())"


def test_import_order_gluon_compress_first(run_python):
    output = run_python("import gluon_compress, mxnet; print(gluon_compress.runtime.status());"
                        + OPENMP_THREADS, **SILENT)
    cores = len(os.sched_getaffinity(0))
    assert f"{cores} of {cores} usable cores (OMP_NUM_THREADS set before MXNet's import)" in output
    assert output.split()[-1] == str(cores)


def test_import_order_mxnet_first(run_python):
    output = run_python(stock_mxnet.IMPORT + """
import gluon_compress
print(gluon_compress.runtime.status())
""" + OPENMP_THREADS, **SILENT)
    assert "(untouched)" in output and "MXSetNumOMPThreads" in output
    assert output.split()[-1] == str(runtime.usable_cores())


def test_import_after_an_import_of_mxnet_that_failed(run_python):
    # a notebook's first cell; MXNet's library is loaded by then, and no longer reads OMP_NUM_THREADS
    output = run_python("""
try:
    import mxnet
except AttributeError:
    print("failed")
import gluon_compress, mxnet
print(float(mxnet.nd.ones(3).sum().asscalar()))
""" + OPENMP_THREADS, **SILENT)
    assert output.split() == ["failed", "3.0", str(runtime.usable_cores())]


# ---- threads

@pytest.mark.parametrize("name, value, count", [
    ("OMP_NUM_THREADS", "3", 3), ("MXNET_OMP_MAX_THREADS", "1", 1), ("OMP_NUM_THREADS", "4,2", 4),
    ("OMP_NUM_THREADS", "many", 8)])
@pytest.mark.parametrize("library_loaded", [False, True])
def test_thread_variables_of_the_user_win(name, value, count, library_loaded):
    environment = {name: value}
    found = threads.set_threads(environment, library_loaded, cores=8)
    assert found == (count, f"{name} was set by the user")
    assert environment == {name: value}


def test_the_switch_leaves_the_environment_alone(run_python):
    output = run_python("""
import os
before = dict(os.environ)
import gluon_compress
print(gluon_compress.runtime.status())
changed = {name for name in os.environ.keys() | before.keys() if os.environ.get(name) != before.get(name)}
print(changed & {"OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "DNNL_MAX_CPU_ISA",
                 "ONEDNN_MAX_CPU_ISA", "DNNL_PRIMITIVE_CACHE_CAPACITY"})
""", **{**SILENT, "GLUON_COMPRESS_RUNTIME": "0"})
    assert output.count("GLUON_COMPRESS_RUNTIME=0") == 4
    assert output.splitlines()[-1] == "set()"


@pytest.mark.parametrize("environment, library_loaded, count, reason", [
    ({}, False, 2, "GLUON_COMPRESS_WAITING=active was not asked for"),
    ({"GLUON_COMPRESS_WAITING": ""}, False, 2, "GLUON_COMPRESS_WAITING=active was not asked for"),
    ({"GLUON_COMPRESS_WAITING": "active", "OMP_WAIT_POLICY": "passive"}, False, 2,
     "OMP_WAIT_POLICY was set by the user"),
    ({"GLUON_COMPRESS_WAITING": "active", "GOMP_SPINCOUNT": "7"}, False, 2, "GOMP_SPINCOUNT was set by the user"),
    ({"GLUON_COMPRESS_WAITING": "active"}, True, 2, "MXNet was imported first"),
    ({"GLUON_COMPRESS_WAITING": "active"}, False, 1, "one thread")])
def test_waiting_is_left_alone(environment, library_loaded, count, reason):
    before = dict(environment)
    assert threads.set_waiting(environment, library_loaded, count) == f"as OpenMP does ({reason})"
    assert environment == before


def test_an_import_alone_leaves_waiting_to_openmp(run_python):
    """Beside other programs looking for work takes their time, so that no library may do it unasked."""
    code = "import os, gluon_compress; print(sorted(os.environ.keys() & {'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'}))"
    assert run_python(code, **{**SILENT, "OMP_NUM_THREADS": "2"}).strip() == "[]"


def test_threads_look_for_work_a_little_longer_when_asked_to(run_python):
    code = "import gluon_compress; print(gluon_compress.runtime.status().waiting)"
    asked = {**SILENT, "OMP_NUM_THREADS": "2", "GLUON_COMPRESS_WAITING": "active"}
    assert run_python(code, **asked).startswith("active (OMP_WAIT_POLICY=active")
    environment = {"GLUON_COMPRESS_WAITING": "active"}
    assert threads.set_waiting(environment, False, 2).startswith("active")
    assert environment == {"GLUON_COMPRESS_WAITING": "active", "OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "100000"}


def test_another_way_of_waiting_is_refused():
    with pytest.raises(ValueError, match="GLUON_COMPRESS_WAITING is 'passive'; accepted: 'active', or unset"):
        threads.set_waiting({"GLUON_COMPRESS_WAITING": "passive"}, False, 2)


@pytest.mark.parametrize("membership, files, quota", [
    ("", {}, None),
    ("", {"cpu.max": "max 100000"}, None),
    ("", {"cpu.max": "max"}, None),
    ("", {"cpu.max": "150000 100000"}, 1.5),
    ("", {"cpu.max": "50000 100000\n"}, 0.5),
    ("", {"cpu.max": "nonsense here"}, None),
    ("", {"cpu.max": "100000 0"}, None),
    ("", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ("", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
    ("", {"cpu/cpu.cfs_quota_us": "300000"}, None),
    # nested: the smallest of the group's and those above it
    ("0::/a/b", {"a/b/cpu.max": "150000 100000"}, 1.5),
    ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
    ("0::/a/b", {"cpu.max": "50000 100000", "a/b/cpu.max": "300000 100000"}, 0.5),
    ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "300000 100000"}, 0.5),
    ("0::/a/b", {"a/c/cpu.max": "50000 100000", "a/b/c/cpu.max": "50000 100000"}, None),  # not this process's
    ("0::/", {"cpu.max": "150000 100000"}, 1.5),
    ("0::/../../host", {"cpu.max": "150000 100000"}, 1.5),   # a container that is told of the world outside
    ("0::/host/only", {"cpu.max": "150000 100000"}, 1.5),
    ("9:name=systemd:/x\n4:cpu,cpuacct:/d/e\n0::/", {"cpu,cpuacct/d/cpu.cfs_quota_us": "150000",
                                                    "cpu,cpuacct/d/cpu.cfs_period_us": "100000"}, 1.5),
    ("4:cpu,cpuacct:/d/e", {"cpu/d/e/cpu.cfs_quota_us": "50000", "cpu/d/e/cpu.cfs_period_us": "100000",
                            "cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, 0.5),
    ("4:cpuset:/d", {"cpu/d/cpu.cfs_quota_us": "50000", "cpu/d/cpu.cfs_period_us": "100000"}, None),
    ("1:memory:/m\n0::/h", {"unified/h/cpu.max": "50000 100000"}, 0.5),
])
def test_container_quotas(tmp_path, monkeypatch, membership, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    found = cgroups.cpu_quota(tmp_path, tmp_path / "membership")
    assert found == quota
    monkeypatch.setattr(threads, "cpu_quota", lambda: found)
    affinity = len(os.sched_getaffinity(0))
    # a started core counts as one: 1.5 cores keep two threads busy, half a core one
    expected = affinity if quota is None else min(affinity, {0.5: 1, 1.5: 2, 3.0: 3}[quota])
    assert runtime.usable_cores() == expected


def test_cores_follow_the_affinity(run_python):
    output = run_python("""
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import gluon_compress
print(gluon_compress.runtime.status().threads, os.environ["OMP_NUM_THREADS"])
""", **SILENT)
    assert output.split() == ["1", "1"]


# ---- AMX

class Kernel:
    """Answers the request for the tile registers, and remembers that it was asked."""

    def __init__(self, answer=0):
        self.answer, self.asked = answer, 0

    def __call__(self):
        self.asked += 1
        return self.answer


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``machine(cpuinfo, system, processor)`` -> a fake of /proc/cpuinfo on such a machine."""
    def build(cpuinfo, system="linux", processor="x86_64"):
        monkeypatch.setattr(onednn.sys, "platform", system)
        monkeypatch.setattr(onednn.platform, "machine", lambda: processor)
        path = tmp_path / "cpuinfo"
        if cpuinfo is not None:
            path.write_text(cpuinfo)
        return path
    return build


def test_amx_is_unlocked_after_the_kernels_grant(machine):
    environment, kernel = {}, Kernel()
    on, reason = onednn.unlock_amx(environment, machine(AMX_CPU), kernel)
    assert on and "granted" in reason and kernel.asked == 1
    assert environment == {"DNNL_MAX_CPU_ISA": "AVX512_CORE_AMX"}


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, -1])
def test_a_refusing_kernel_keeps_the_variable_unset(machine, error):
    environment = {}
    on, reason = onednn.unlock_amx(environment, machine(AMX_CPU), Kernel(error))
    assert not on and environment == {}
    assert "refused" in reason and (os.strerror(error) if error > 0 else "-1") in reason


@pytest.mark.parametrize("cpuinfo, system, processor, reason", [
    (PLAIN_CPU, "linux", "x86_64", "this CPU has none"),
    (PLAIN_CPU.replace("sse", "amx_tile"), "linux", "x86_64", "this CPU has none"),  # bf16 only
    ("Features\t: fp asimd\n", "linux", "x86_64", "names no CPU flags"),
    (None, "linux", "x86_64", "names no CPU flags"),
    (AMX_CPU, "linux", "aarch64", "needs Linux on x86-64, this is linux on aarch64"),
    (AMX_CPU, "darwin", "x86_64", "this is darwin on x86_64"),
    (AMX_CPU, "win32", "AMD64", "this is win32 on AMD64"),
])
def test_elsewhere_the_kernel_is_not_even_asked(machine, cpuinfo, system, processor, reason):
    environment, kernel = {}, Kernel()
    on, found = onednn.unlock_amx(environment, machine(cpuinfo, system, processor), kernel)
    assert not on and reason in found
    assert environment == {} and kernel.asked == 0


@pytest.mark.parametrize("environment", [
    {"DNNL_MAX_CPU_ISA": "AVX2"}, {"DNNL_MAX_CPU_ISA": "ALL"}, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}])
def test_isa_variables_of_the_user_win(machine, environment):
    before, kernel = dict(environment), Kernel()
    on, reason = onednn.unlock_amx(environment, machine(AMX_CPU), kernel)
    assert not on and "was set by the user" in reason
    assert environment == before and kernel.asked == 0


def test_a_user_who_asks_for_amx_gets_the_grant_too(machine):
    # so does a child process, which inherits the variable but not the grant
    environment, kernel = {"DNNL_MAX_CPU_ISA": "avx512_core_amx"}, Kernel()
    on, reason = onednn.unlock_amx(environment, machine(AMX_CPU), kernel)
    assert on and kernel.asked == 1 and "set by the user" in reason
    assert environment == {"DNNL_MAX_CPU_ISA": "avx512_core_amx"}
    on, reason = onednn.unlock_amx(environment, machine(AMX_CPU), Kernel(errno.EPERM))
    assert not on and "refused" in reason


def test_the_real_kernel_answers_and_the_variable_follows_it(run_python):
    # on this machine, whatever it is: the variable is set exactly when status() says that AMX is on
    output = run_python("""
import os
from gluon_compress import runtime
from gluon_compress.runtime.onednn import request_amx_tiles
answer = request_amx_tiles()
assert isinstance(answer, int)
print(runtime.status().amx, os.environ.get("DNNL_MAX_CPU_ISA"), answer == 0)
""", **SILENT)
    on, variable, granted = output.split()
    assert (on == "True") == (variable == "AVX512_CORE_AMX")
    assert on == "False" or granted == "True"


# ---- oneDNN's cache of primitives

@pytest.mark.parametrize("environment, flags, reason", [
    ({"DNNL_PRIMITIVE_CACHE_CAPACITY": "1024"}, PLAIN_CPU, "DNNL_PRIMITIVE_CACHE_CAPACITY was set by the user"),
    ({"DNNL_MAX_CPU_ISA": "avx2"}, PLAIN_CPU, "DNNL_MAX_CPU_ISA hides AVX-512"),
    ({}, "flags : fpu sse avx2\n", "this CPU has no AVX-512")])
def test_the_primitive_cache_is_left_alone(tmp_path, environment, flags, reason):
    (tmp_path / "cpuinfo").write_text(flags)
    before = dict(environment)
    assert reason in onednn.switch_primitive_cache_off(environment, tmp_path / "cpuinfo")
    assert environment == before


@pytest.mark.parametrize("environment", [{}, {"DNNL_MAX_CPU_ISA": "AVX512_CORE"}])
@pytest.mark.parametrize("flags", [PLAIN_CPU, "nothing of the kind"])
def test_the_primitive_cache_is_off_where_it_may_end_the_process(tmp_path, environment, flags):
    (tmp_path / "cpuinfo").write_text(flags)
    environment = dict(environment)
    assert onednn.switch_primitive_cache_off(environment, tmp_path / "cpuinfo").startswith("off")
    assert environment["DNNL_PRIMITIVE_CACHE_CAPACITY"] == "0"


@pytest.mark.parametrize("mxnet_first", [False, True])
def test_batch_norm_of_images_and_of_matrices_of_one_size(run_python, mxnet_first):
    """With AVX-512 the first is channels-last, behind a 1x1 convolution; with oneDNN's cache the next is the end."""
    output = run_python((stock_mxnet.IMPORT + "\n" if mxnet_first else "") + """
import gluon_compress, mxnet as mx, numpy as np
from mxnet.gluon import nn
convolution = nn.Conv2D(128, 1)
convolution.initialize()
images = convolution(mx.nd.random.normal(shape=(4, 64, 1, 1)))
inputs = [(1, images), (1, mx.nd.random.normal(shape=(4, 128))), (1, mx.nd.random.normal(shape=(4, 128, 1))),
          (-1, mx.nd.random.normal(shape=(2, 2, 1, 128)))]
for axis, values in inputs:
    for training in (False, True):
        layer = nn.BatchNorm(axis=axis)
        layer.initialize()
        with mx.autograd.record(train_mode=training):
            output = layer(values).asnumpy()
        values = values.asnumpy()
        rows = values.reshape(4, 128)
        expected = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) if training else rows / np.sqrt(1 + 1e-5)
        assert np.abs(output.reshape(4, 128) - expected).max() < 1e-4, (axis, training)
        values = mx.nd.array(values)
print("fine")
""", **SILENT, MXNET_ENGINE_TYPE="NaiveEngine")
    assert output.split()[-1] == "fine"


def test_status_prints_and_goes_to_json():
    status = runtime.status()
    assert status.mxnet == "1.9.1" and status.numpy == np.__version__
    assert status.to_dict()["threads"] == status.threads
    assert [line.split()[0] for line in str(status).splitlines() if not line.startswith(" ")] == [
        "MXNet", "NumPy", "Python", "threads", "waiting", "AMX", "cache"]
