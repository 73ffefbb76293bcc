"""One network in one runtime: what way_out.py starts once for each system, in the interpreter of that system.

    python way_out_systems.py "OpenVINO, pruned int8" FOLDER

The folder is one of way_out_networks.py. For what it is asked and answers see int8_speed_systems.py.
"""
import runpy
import sys
from pathlib import Path

import int8_speed_systems as systems

CALIBRATION_BATCH = 8
FORMS = ("dense", "pruned", "dense int8", "pruned int8")


def mxnet_installed(folder, form, precision):
    """Nothing of gluon_compress in the process: as a user of MXNet 1.9.1 has it, its own quantization included."""
    runpy.run_path(systems.NUMPY_NAMES)["restore_names"]()  # the one thing without which it does not import
    import mxnet as mx
    net = mx.gluon.SymbolBlock.imports(str(folder / f"{form}-symbol.json"), ["data"],
                                       str(folder / f"{form}-0000.params"))
    if precision == "int8":
        net = mxnets_integers(mx, net, folder)
    net.hybridize()
    return systems.mxnet_passes(mx, net)


def mxnets_integers(mx, net, folder):
    """``quantize_net_v2`` as its documentation has it: naive calibration, integers where it chooses them."""
    from mxnet.contrib.quantization import quantize_net_v2
    images = all_images(folder)
    return quantize_net_v2(net, quantized_dtype="auto", calib_mode="naive", num_calib_examples=len(images),
                           calib_data=mx.io.NDArrayIter(images, batch_size=CALIBRATION_BATCH))


def ours(folder, form, precision):
    import gluon_compress as gc
    import mxnet as mx
    if precision == "int8":
        return systems.mxnet_passes(mx, gc.load(folder / f"{form}_int8.gcz"))

    def run(data):
        net, array = gc.load(folder / f"{form}.gcz"), mx.nd.array(data)
        net.optimize_for(array, backend="MKLDNN", static_alloc=True, static_shape=True)
        return lambda: net(array).asnumpy()
    return run


def onnx_runtime(folder, form, precision):
    return systems.onnx_runtime_passes(onnx_file(folder, form, precision))


def openvino(folder, form, precision):
    hint = {} if precision == "int8" else {"INFERENCE_PRECISION_HINT": "f32"}  # bf16 where it can, otherwise
    return systems.openvino_passes(onnx_file(folder, form, precision), **hint)


def openvino_nncf(folder, form, _):
    return systems.openvino_passes(nncf_file(folder, form))


def nncf_file(folder, form):
    """What NNCF makes of the fp32 file with the same images; made when it is not there."""
    file = folder / f"{form}_nncf.xml"
    if not file.exists():
        import nncf
        import openvino
        images = all_images(folder)
        openvino.save_model(nncf.quantize(openvino.Core().read_model(folder / f"{form}.onnx"),
                                          nncf.Dataset([image[None] for image in images]), subset_size=len(images)),
                            file)
    return file


def onnx_file(folder, form, precision):
    return folder / (f"{form}_int8.onnx" if precision == "int8" else f"{form}.onnx")


def all_images(folder):
    import numpy as np
    return np.load(folder / "images.npy")


RUNTIMES = {"MXNet as installed": mxnet_installed, "MXNet with gluon_compress": ours, "ONNX Runtime": onnx_runtime,
            "OpenVINO": openvino, "OpenVINO with NNCF": openvino_nncf}
SYSTEMS = [f"{runtime}, {form}" for runtime in RUNTIMES for form in FORMS
           if runtime != "OpenVINO with NNCF" or "int8" in form]


def main():
    answers = systems.answering()
    runtime, form = sys.argv[1].split(", ")
    form, _, precision = form.partition(" ")
    folder = Path(sys.argv[2])
    systems.serve(RUNTIMES[runtime](folder, form, precision), lambda batch: systems.images(folder, batch), answers)


if __name__ == "__main__":
    main()
