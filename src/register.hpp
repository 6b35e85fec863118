// One register_* function per area; module.cpp calls them in this order.
#pragma once

#include <pybind11/pybind11.h>

namespace swiftdet::python {

void register_errors(pybind11::module_& m);
void register_preprocess(pybind11::module_& m);
void register_postprocess(pybind11::module_& m);
void register_backends(pybind11::module_& m);
void register_detector(pybind11::module_& m);

void register_cuda_ops(pybind11::module_& m);  // of the module _cuda

}  // namespace swiftdet::python
