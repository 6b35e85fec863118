#include "register.hpp"

namespace swiftdet::python {
void register_preprocess(pybind11::module_& /*m*/) {}
}  // namespace swiftdet::python
