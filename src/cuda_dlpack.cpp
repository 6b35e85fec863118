#include "cuda_dlpack.hpp"

#include <cstdint>
#include <string>
#include <utility>

#include "convert.hpp"
#include "dlpack.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet::python {
namespace {

using namespace pybind11::literals;  // NOLINT(google-build-using-namespace): "name"_a

/// A tensor taken over from a capsule: from then on it is this object that calls its deleter, once. Needs the GIL.
class DlpackTensor {
 public:
  explicit DlpackTensor(const py::object& capsule) {
    if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0) {
      auto* const managed = take<dlpack::ManagedVersioned>(capsule, "dltensor_versioned", "used_dltensor_versioned");
      const dlpack::Version version = managed->version;
      if (version.major != dlpack::kMajor) {
        release();
        throw InvalidArgument("image: expected a tensor of DLPack " + std::to_string(dlpack::kMajor) + ", got one of " +
                              std::to_string(version.major) + "." + std::to_string(version.minor));
      }
      tensor_ = managed->tensor;
    } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor") != 0) {
      tensor_ = take<dlpack::Managed>(capsule, "dltensor", "used_dltensor")->tensor;
    } else {
      throw InvalidType("image: expected a DLPack capsule that nobody has taken yet from __dlpack__, got " +
                        py::repr(capsule).cast<std::string>());
    }
  }
  DlpackTensor(const DlpackTensor&) = delete;
  DlpackTensor& operator=(const DlpackTensor&) = delete;
  ~DlpackTensor() { release(); }

  void release() noexcept {
    void* const managed = std::exchange(managed_, nullptr);
    if (managed == nullptr) return;
    const py::error_scope pending;  // the deleter may run Python, which must not find an error that is under way
    tensor_ = {};
    call_deleter_(managed);
  }

  [[nodiscard]] std::pair<int, int> device() const { return {tensor_.device.type, tensor_.device.index}; }
  [[nodiscard]] py::tuple type() const {
    return py::make_tuple(tensor_.type.code, tensor_.type.bits, tensor_.type.lanes);
  }
  [[nodiscard]] py::tuple shape() const { return axes(tensor_.shape); }
  [[nodiscard]] py::object strides() const {
    if (tensor_.strides == nullptr) return py::none();
    return axes(tensor_.strides);
  }
  [[nodiscard]] std::uintptr_t pointer() const {
    const auto start = reinterpret_cast<std::uintptr_t>(tensor_.data);
    return start == 0 ? 0 : start + static_cast<std::uintptr_t>(tensor_.byte_offset);
  }

 private:
  template <typename Managed>
  Managed* take(const py::object& capsule, const char* name, const char* taken) {
    auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), name));
    // The name tells whose turn it is to call the deleter: the capsule's own until it is changed.
    if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), taken) != 0) {
      throw py::error_already_set();  // Not run in tests: both accept a capsule that PyCapsule_IsValid accepts.
    }
    managed_ = managed;
    call_deleter_ = [](void* taken_over) {
      auto* const self = static_cast<Managed*>(taken_over);
      if (self->deleter != nullptr) self->deleter(self);
    };
    return managed;
  }

  [[nodiscard]] py::tuple axes(const std::int64_t* values) const {
    py::tuple tuple(tensor_.rank);
    for (std::int32_t axis = 0; axis < tensor_.rank; ++axis) tuple[static_cast<std::size_t>(axis)] = values[axis];
    return tuple;
  }

  dlpack::Tensor tensor_{};
  void* managed_ = nullptr;
  void (*call_deleter_)(void*) = nullptr;
};

}  // namespace

void register_dlpack(py::module_& m) {
  py::class_<StreamLoan>(m, "StreamLoan", "A CUDA stream that a detector lends, until `release`.")
      .def_property_readonly("handle", &StreamLoan::handle, "Its address; 0 after `release`.")
      .def("release", &StreamLoan::release, "Gives it back; later calls do nothing.");
  py::class_<DlpackTensor>(m, "DlpackTensor", "A tensor taken over from a DLPack capsule, until `release`.")
      .def(py::init<const py::object&>(), "capsule"_a,
           "Raises InvalidType for what is no capsule of a tensor or one that was taken before, InvalidArgument for a "
           "version of DLPack that is not understood; its deleter has been called then.")
      .def_property_readonly("device", &DlpackTensor::device, "(type, index), by DLPack's numbers.")
      .def_property_readonly("dtype", &DlpackTensor::type, "(code, bits, lanes), by DLPack's numbers.")
      .def_property_readonly("shape", &DlpackTensor::shape, "Sides; empty after `release`.")
      .def_property_readonly("strides", &DlpackTensor::strides, "In elements; None: packed.")
      .def_property_readonly("pointer", &DlpackTensor::pointer, "Address of the first element; 0: no memory.")
      .def("release", &DlpackTensor::release, "Calls the deleter; later calls do nothing.");
}

}  // namespace swiftdet::python
