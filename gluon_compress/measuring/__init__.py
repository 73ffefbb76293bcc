"""Before and after: parameters, bytes, MACs, latency, the kernels that run; tables and plots."""
from ..network.latency import Timing, measure_latency
from . import plots
from .kernels import Kernel, KernelReport, kernels_of, measure_islands, operator_times
from .reports import Report, report

__all__ = ["Kernel", "KernelReport", "Timing", "Report", "kernels_of", "measure_islands", "measure_latency",
           "operator_times", "plots", "report"]
