#include "python_backend.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/session_shape.hpp"
#include "base/aligned_buffer.hpp"
#include "convert.hpp"
#include "gil.hpp"

namespace swiftdet::python {
namespace {

/// An object that may be copied and dropped without the GIL.
std::shared_ptr<py::object> share(py::object object) {
  return {new py::object(std::move(object)), [](py::object* owned) noexcept {
            if (Py_IsInitialized() == 0) return;  // the interpreter is gone, and the object with it
            const GilAcquired gil;
            delete owned;
          }};
}

std::string type_name(const py::handle& object) { return Py_TYPE(object.ptr())->tp_name; }

/// str(raised), also where that fails or holds what UTF-8 cannot express.
std::string words_of(const py::handle& raised) {
  try {
    return py::str(raised).attr("encode")("utf-8", "backslashreplace").cast<std::string>();
  } catch (const py::error_already_set&) {
    return "(it has no message: its __str__ raised)";
  }
}

/// (name, shape) as engines give it: dimensions are int, open ones -1, None or a name.
Port as_port(const py::handle& item, const std::string& where) {
  const auto refuse = [&](const std::string& expected) {
    return InvalidType("engine." + where + ": expected " + expected + ", got " + py::repr(item).cast<std::string>());
  };
  if (!py::isinstance<py::sequence>(item) || py::isinstance<py::str>(item) || py::len(item) != 2) {
    throw refuse("(name, shape)");
  }
  const auto pair = py::reinterpret_borrow<py::sequence>(item);
  const py::object name = pair[0];
  const py::object dims = pair[1];
  if (!py::isinstance<py::str>(name)) throw refuse("a str as name");
  if (!py::isinstance<py::sequence>(dims) || py::isinstance<py::str>(dims)) throw refuse("a sequence as shape");
  if (py::len(dims) > Shape::kMaxRank) throw refuse("at most " + std::to_string(Shape::kMaxRank) + " dimensions");
  Port port{name.cast<std::string>(), {}};
  for (const py::handle dim : dims) {
    if (dim.is_none() || py::isinstance<py::str>(dim)) {
      port.shape.push_back(-1);
    } else if (PyIndex_Check(dim.ptr()) != 0) {
      const auto size = py::int_(py::reinterpret_borrow<py::object>(dim)).cast<std::int64_t>();
      if (size < -1) throw refuse("dimensions of at least 0, or -1");
      port.shape.push_back(size);
    } else {
      throw refuse("dimensions as int, None or str");
    }
  }
  return port;
}

std::vector<Port> as_ports(const py::object& engine, const char* attribute) {
  if (!py::hasattr(engine, attribute)) {
    throw InvalidType(std::string("engine: expected an object with inputs, outputs and run (see "
                                  "swiftdet.engines.PythonEngine), got ") +
                      type_name(engine) + " without " + attribute);
  }
  const py::object list = engine.attr(attribute);
  if (!py::isinstance<py::sequence>(list)) {
    throw InvalidType(std::string("engine.") + attribute + ": expected a sequence of (name, shape), got " +
                      type_name(list));
  }
  std::vector<Port> ports;
  for (const py::handle item : list) {
    ports.push_back(as_port(item, std::string(attribute) + "[" + std::to_string(ports.size()) + "]"));
  }
  return ports;
}

class PythonBackend final : public Backend, public std::enable_shared_from_this<PythonBackend> {
 public:
  explicit PythonBackend(const py::object& engine)
      : outputs_(as_ports(engine, "outputs")), description_(describe_engine(engine)), engine_(share(engine)) {
    const std::vector<Port> inputs = as_ports(engine, "inputs");
    if (inputs.size() != 1) {
      std::string names;
      for (const Port& port : inputs) names += " '" + port.name + "'";
      throw ModelError("engine.inputs: expected one input, the image; got " + std::to_string(inputs.size()) + names);
    }
    if (outputs_.empty()) throw ModelError("engine.outputs: expected at least one output, got none");
    if (!py::hasattr(engine, "run") || PyCallable_Check(py::object(engine.attr("run")).ptr()) == 0) {
      throw InvalidType("engine: expected a method run(inputs), " + type_name(engine) + " has none");
    }
    input_ = inputs.front();
  }

  [[nodiscard]] const Port& input() const noexcept override { return input_; }
  [[nodiscard]] const std::vector<Port>& outputs() const noexcept override { return outputs_; }
  [[nodiscard]] int preferred_sessions() const noexcept override { return 1; }
  [[nodiscard]] std::string description() const override { return description_; }
  [[nodiscard]] std::unique_ptr<BackendSession> create_session(const Shape& shape) const override;

  /// The engine itself; needs the GIL to be used.
  [[nodiscard]] py::handle engine() const noexcept { return *engine_; }

 private:
  static std::string describe_engine(const py::object& engine) {
    const py::object text = py::getattr(engine, "description", py::none());
    return py::isinstance<py::str>(text) ? text.cast<std::string>() : type_name(engine);
  }

  Port input_;
  std::vector<Port> outputs_;
  std::string description_;
  std::shared_ptr<py::object> engine_;
};

class PythonSession final : public BackendSession {
 public:
  PythonSession(std::shared_ptr<const PythonBackend> backend, const Shape& shape)
      : backend_(std::move(backend)), input_(std::make_shared<AlignedBuffer>(shape)) {
    views_.resize(backend_->outputs().size());
    const GilAcquired gil;
    python_.emplace();
    // The array owns a share of the buffer, so an engine may keep it beyond the session.
    const py::capsule owner(new std::shared_ptr<AlignedBuffer>(input_),
                            [](void* p) noexcept { delete static_cast<std::shared_ptr<AlignedBuffer>*>(p); });
    const std::vector<py::ssize_t> dims(shape.begin(), shape.end());
    py::array_t<float> view(dims, input_->data(), owner);
    view.attr("setflags")(py::arg("write") = false);  // the next call counts on what this one leaves
    python_->inputs[py::str(backend_->input().name)] = std::move(view);
  }

  ~PythonSession() override {
    if (Py_IsInitialized() == 0) {
      static_cast<void>(new std::optional<Objects>(std::move(python_)));  // not ours to free any more
      return;
    }
    const GilAcquired gil;
    python_.reset();
  }
  PythonSession(const PythonSession&) = delete;
  PythonSession& operator=(const PythonSession&) = delete;

  [[nodiscard]] MutableTensorView input() override { return {input_->data(), input_->shape()}; }

  /// Runs to the end: Python code has no thread of its own to go on in.
  void start() override {
    const GilAcquired gil;
    try {
      views_.assign(views_.size(), {});  // a failed run leaves no views of what is freed here
      python_->outputs.clear();
      collect(backend_->engine().attr("run")(python_->inputs));
    } catch (py::error_already_set& raised) {
      // KeyboardInterrupt and SystemExit go their way.
      if (!raised.matches(PyExc_Exception)) throw;
      throw PythonEngineError(raised);
    }
  }

  void wait() override {}

  [[nodiscard]] std::span<const TensorView> outputs() const override { return views_; }

 private:
  /// Everything that needs the GIL to be touched.
  struct Objects {
    py::dict inputs;                  ///< the argument of run: one view of the input buffer
    std::vector<py::object> outputs;  ///< what views_ point into
  };

  void collect(const py::object& result) {
    const std::vector<Port>& ports = backend_->outputs();
    const bool by_name = py::isinstance<py::dict>(result);
    if (!by_name && (!py::isinstance<py::sequence>(result) || py::isinstance<py::array>(result))) {
      throw InvalidType("engine.run: expected a dict or a sequence of arrays, got " + type_name(result));
    }
    if (!by_name && py::len(result) != ports.size()) {
      throw BackendError("engine.run: expected " + std::to_string(ports.size()) + " outputs, got " +
                         std::to_string(py::len(result)));
    }
    for (std::size_t i = 0; i < ports.size(); ++i) {
      const std::string what = "engine.run: output '" + ports[i].name + "'";
      if (by_name && !result.contains(ports[i].name.c_str())) throw BackendError(what + " is missing from the result");
      py::object item = by_name ? py::object(result[ports[i].name.c_str()]) : py::object(result[py::int_(i)]);
      if (!py::isinstance<py::array>(item)) {
        throw InvalidType(what + ": expected a C-contiguous float32 array, got " + type_name(item));
      }
      const auto array = py::reinterpret_borrow<py::array>(item);
      const TensorView view = as_tensor(array, what);
      if (!allows(ports[i].shape, view.shape)) {
        throw BackendError(what + ": expected " + ports[i].shape.to_string() + " as in engine.outputs, got " +
                           view.shape.to_string());
      }
      python_->outputs.push_back(std::move(item));
      views_[i] = view;
    }
  }

  static bool allows(const Shape& declared, const Shape& actual) {
    return declared.rank() == actual.rank() &&
           std::equal(declared.begin(), declared.end(), actual.begin(),
                      [](std::int64_t own, std::int64_t got) { return own < 0 || own == got; });
  }

  std::shared_ptr<const PythonBackend> backend_;
  std::shared_ptr<AlignedBuffer> input_;
  std::optional<Objects> python_;
  std::vector<TensorView> views_;
};

std::unique_ptr<BackendSession> PythonBackend::create_session(const Shape& shape) const {
  check_session_shape(input_, shape);
  return std::make_unique<PythonSession>(shared_from_this(), shape);
}

}  // namespace

PythonEngineError::PythonEngineError(const py::error_already_set& raised)
    : BackendError("engine.run raised " + type_name(raised.value()) + ": " + words_of(raised.value())),
      cause_(share(raised.value())) {
  // Before Python 3.12 an exception in flight and its traceback are two objects.
  if (raised.trace()) PyException_SetTraceback(cause_->ptr(), raised.trace().ptr());
}

std::shared_ptr<Backend> make_python_backend(const py::object& engine) {
  return std::make_shared<PythonBackend>(engine);
}

}  // namespace swiftdet::python
