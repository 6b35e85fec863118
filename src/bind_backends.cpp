// Engines as Python sees them: OpenVINO's runtime, the engines it compiles, and engines written in Python.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>
#include <pybind11/typing.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "call_gate.hpp"
#include "convert.hpp"
#include "gil.hpp"
#include "python_backend.hpp"
#include "register.hpp"
#include "swiftdet/backend.hpp"
#include "swiftdet/openvino.hpp"

namespace swiftdet::python {
namespace {

using namespace pybind11::literals;  // NOLINT(google-build-using-namespace): "name"_a

using Dims = std::vector<std::int64_t>;
using OptionalDims = std::optional<Dims>;

Shape as_shape(const Dims& dims, const std::string& what) {
  if (dims.size() > Shape::kMaxRank) {
    throw InvalidArgument(what + ": expected at most " + std::to_string(Shape::kMaxRank) + " dimensions, got " +
                          std::to_string(dims.size()));
  }
  Shape shape;
  for (const std::int64_t dim : dims) shape.push_back(dim);
  return shape;
}

Shape as_input_shape(const OptionalDims& dims) { return dims ? as_shape(*dims, "input_shape") : Shape{}; }

/// Borrows from `bytes`; bytes objects never change, so the GIL may be released while the view is used.
std::span<const std::byte> as_span(const py::bytes& bytes) {
  const std::string_view text(bytes);
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Typed, so that the generated stub says what is inside.
using PythonPort = std::pair<py::str, py::typing::Tuple<int, py::ellipsis>>;
using PythonArrays = py::typing::List<py::array_t<float>>;

PythonPort as_python(const Port& port) {
  return {as_text(port.name), py::typing::Tuple<int, py::ellipsis>(as_tuple(port.shape))};
}

std::vector<PythonPort> as_python(const std::vector<Port>& ports) {
  std::vector<PythonPort> list;
  list.reserve(ports.size());
  for (const Port& port : ports) list.push_back(as_python(port));
  return list;
}

/// The engine in a form that Python may drop: destroying it joins threads, so the GIL is released meanwhile.
std::shared_ptr<Backend> droppable(std::shared_ptr<const Backend> engine) {
  // pybind11 knows no pointers to const; every method bound below is const.
  auto* const raw = const_cast<Backend*>(engine.get());  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  return {raw, [engine = std::move(engine)](Backend*) mutable noexcept {
            std::optional<GilReleased> nogil;
            if (Py_IsInitialized() != 0 && PyGILState_Check() != 0) nogil.emplace();
            engine.reset();
          }};
}

/// One session with its buffers as NumPy views: for timing and verifying an engine by itself.
class EngineSession {
 public:
  EngineSession(std::shared_ptr<const Backend> engine, const Shape& shape) : engine_(std::move(engine)) {
    const GilReleased nogil;
    session_ = engine_->create_session(shape);
  }
  ~EngineSession() {
    const GilReleased nogil;
    session_.reset();
    engine_.reset();
  }
  EngineSession(const EngineSession&) = delete;
  EngineSession& operator=(const EngineSession&) = delete;

  void infer() {
    const GilReleased nogil;
    const CallGate::Pass pass;
    if (busy_.exchange(true, std::memory_order_acquire)) {
      throw InvalidArgument("EngineSession: expected one thread at a time; create a session for each thread");
    }
    const std::unique_ptr<std::atomic<bool>, void (*)(std::atomic<bool>*)> done(
        &busy_, [](std::atomic<bool>* busy) { busy->store(false, std::memory_order_release); });
    session_->start();
    session_->wait();
  }

  [[nodiscard]] MutableTensorView input() { return session_->input(); }
  [[nodiscard]] std::span<const TensorView> outputs() const { return session_->outputs(); }

 private:
  std::shared_ptr<const Backend> engine_;
  std::unique_ptr<BackendSession> session_;
  std::atomic<bool> busy_ = false;
};

py::array_t<float> as_array(const TensorView& view, const py::handle& owner) {
  const std::vector<py::ssize_t> dims(view.shape.begin(), view.shape.end());
  // Without an owner pybind11 copies.
  return owner ? py::array_t<float>(dims, view.data, owner) : py::array_t<float>(dims, view.data);
}

py::array_t<float> input_view(const py::object& self) {
  const MutableTensorView view = self.cast<EngineSession&>().input();
  return as_array({view.data, view.shape}, self);
}

PythonArrays output_views(const py::object& self) {
  PythonArrays list;
  for (const TensorView& view : self.cast<const EngineSession&>().outputs()) {
    if (view.data == nullptr) throw InvalidArgument("EngineSession.outputs: call infer() first");
    py::array_t<float> array = as_array(view, self);
    array.attr("flags").attr("writeable") = false;
    list.append(std::move(array));
  }
  return list;
}

PythonArrays infer(const Backend& engine, const py::array& images) {
  const TensorView input = as_tensor(images, "input");
  std::unique_ptr<BackendSession> session;
  {
    const GilReleased nogil;
    const CallGate::Pass pass;
    session = engine.create_session(input.shape);
    std::copy_n(input.data, input.shape.volume(), session->input().data);
    session->start();
    session->wait();
  }
  PythonArrays outputs;
  for (const TensorView& view : session->outputs()) outputs.append(as_array(view, {}));
  {
    const GilReleased nogil;
    session.reset();
  }
  return outputs;
}

openvino::Performance as_performance(const std::string& name) {
  if (name == "latency") return openvino::Performance::kLatency;
  if (name == "throughput") return openvino::Performance::kThroughput;
  throw InvalidArgument("performance: expected 'latency' or 'throughput', got '" + name + "'");
}

std::shared_ptr<Backend> compile(openvino::Runtime& runtime, const py::bytes& model, const py::bytes& weights,
                                 const std::string& performance, const OptionalDims& input_shape,
                                 std::string inference_precision, int num_threads,
                                 const std::optional<std::filesystem::path>& cache_dir) {
  const openvino::CompileOptions options{as_performance(performance), as_input_shape(input_shape),
                                         std::move(inference_precision), num_threads,
                                         cache_dir.value_or(std::filesystem::path())};
  const auto model_bytes = as_span(model);
  const auto weight_bytes = as_span(weights);
  const GilReleased nogil;
  return droppable(runtime.compile(model_bytes, weight_bytes, options));
}

std::pair<std::vector<PythonPort>, std::vector<PythonPort>> inspect(openvino::Runtime& runtime, const py::bytes& model,
                                                                    const py::bytes& weights,
                                                                    const OptionalDims& input_shape) {
  const Shape shape = as_input_shape(input_shape);
  const auto model_bytes = as_span(model);
  const auto weight_bytes = as_span(weights);
  openvino::Signature signature;
  {
    const GilReleased nogil;
    signature = runtime.inspect(model_bytes, weight_bytes, shape);
  }
  return {as_python(signature.inputs), as_python(signature.outputs)};
}

/// raise BackendError(...) from the exception of the engine written in Python.
void translate_python_engine_error(std::exception_ptr pending) {  // NOLINT(performance-unnecessary-value-param)
  try {
    if (pending) std::rethrow_exception(pending);
  } catch (const PythonEngineError& e) {
    const py::object type = py::module_::import("swiftdet.errors").attr("BackendError");
    const py::object error = type(as_text(e.what()));
    PyException_SetCause(error.ptr(), e.cause().inc_ref().ptr());  // takes over that reference
    PyErr_SetObject(type.ptr(), error.ptr());
  }
}

}  // namespace

void register_backends(py::module_& m) {
  py::register_exception_translator(&translate_python_engine_error);

  // All classes before any method, so that signatures name them.
  py::class_<Backend, std::shared_ptr<Backend>> backend(
      m, "Backend", "A compiled network: immutable, shared by all its sessions, safe from several threads.");
  py::class_<EngineSession> session(m, "EngineSession",
                                    "One execution context of an engine, with its buffers as NumPy views. One thread "
                                    "at a time; keeps its engine alive.");
  py::class_<openvino::Runtime, std::shared_ptr<openvino::Runtime>> runtime(
      m, "OpenVINORuntime", "A loaded OpenVINO library. One for each folder and process; safe from several threads.");

  backend
      .def_property_readonly(
          "input", [](const Backend& self) { return as_python(self.input()); },
          "(name, shape) of the image input, float32; -1 is an open dimension.")
      .def_property_readonly(
          "outputs", [](const Backend& self) { return as_python(self.outputs()); },
          "List of (name, shape), all float32; -1 is an open dimension.")
      .def_property_readonly("preferred_sessions", &Backend::preferred_sessions,
                             "How many sessions keep this engine busy.")
      .def_property_readonly("description", &Backend::description, "Name, release and device: for provenance.")
      .def(
          "create_session",
          [](const std::shared_ptr<Backend>& self, const Dims& shape) {
            return std::make_unique<EngineSession>(self, as_shape(shape, "shape"));
          },
          "shape"_a,
          "An EngineSession for an input of exactly `shape`.\n\n"
          "Raises InvalidArgument when the network cannot take it.")
      .def("infer", &infer, "images"_a.noconvert(),
           "Runs the network once in a session of its own; blocks, with the GIL released.\n\n"
           "Args:\n"
           "    images: C-contiguous float32 [N, 3, H, W] in the network's own value range; copied.\n\n"
           "Returns:\n"
           "    The outputs in order, float32, as arrays of their own.\n\n"
           "Raises InvalidType or InvalidArgument for another dtype or shape, BackendError when the engine fails.");

  session.def_property_readonly("input", &input_view, "Writable view of the float32 input that infer() reads.")
      .def("infer", &EngineSession::infer,
           "Runs the network on `input`; blocks, with the GIL released; copies nothing.\n\n"
           "Raises BackendError with the engine's own words, InvalidArgument when another thread is inside.")
      .def("outputs", &output_views,
           "Read-only views of the results of the last infer(), in order. Only valid until the next infer().");

  runtime
      .def_static("load", &openvino::Runtime::load, "library_dir"_a, py::call_guard<GilReleased>(),
                  "Loads libopenvino_c from a folder (the wheel's openvino/libs), or finds it loaded.\n\n"
                  "Raises BackendUnavailable when it is not there or does not load.")
      .def_property_readonly("version", &openvino::Runtime::version, "OpenVINO's own build number.")
      .def_property_readonly(
          "devices",
          [](const openvino::Runtime& self) {
            const GilReleased nogil;
            return self.devices();
          },
          "Names of the devices that OpenVINO sees.")
      .def("inspect", &inspect, "model"_a, "weights"_a = py::bytes(), "input_shape"_a = py::none(),
           "Reads a model without compiling it: ONNX, or the XML of an IR with its weights.\n\n"
           "Returns:\n"
           "    (inputs, outputs), each a list of (name, shape); -1 is an open dimension.\n\n"
           "Raises ModelError when it is unreadable, InvalidArgument when it cannot take `input_shape`.")
      .def("compile", &compile, "model"_a, "weights"_a = py::bytes(), py::kw_only(), "performance"_a = "latency",
           "input_shape"_a = py::none(), "inference_precision"_a = "f32", "num_threads"_a = 0,
           "cache_dir"_a = py::none(),
           "Compiles a model for the CPU; its input and outputs become float32 where they are not.\n\n"
           "Raises ModelError when it is unreadable or has several inputs, InvalidArgument for a bad option, "
           "BackendError when OpenVINO refuses.");

  m.def(
      "python_backend", [](const py::object& engine) { return droppable(make_python_backend(engine)); }, "engine"_a,
      "Makes a Backend of an object that follows swiftdet.engines.PythonEngine.\n\n"
      "Raises InvalidType when it does not, ModelError when it has not exactly one input.");
}

}  // namespace swiftdet::python
