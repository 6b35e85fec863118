#include "swiftdet/openvino.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "backends/onnx_scan.hpp"
#include "backends/openvino_api.hpp"
#include "backends/openvino_requests.hpp"
#include "backends/session_shape.hpp"
#include "base/aligned_buffer.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet::openvino {
namespace {

constexpr const char* kDevice = "CPU";

// --- what OpenVINO's structs say, as ours -----------------------------------------------------------------------

/// Dimensions of a port, -1 where open; nothing when their very number is.
std::optional<Shape> shape_of(const Library& library, const ov_output_const_port_t* port, const std::string& name) {
  const Api& api = library.api();
  ov_partial_shape_t partial{};
  library.check<ModelError>(api.ov_port_get_partial_shape(port, &partial), "tell the shape of '" + name + "'");
  const auto free = [&api](ov_partial_shape_t* p) noexcept { api.ov_partial_shape_free(p); };
  const std::unique_ptr<ov_partial_shape_t, decltype(free)> owner(&partial, free);
  if (partial.rank.min != partial.rank.max) return std::nullopt;
  if (partial.rank.max > static_cast<std::int64_t>(Shape::kMaxRank)) {
    throw ModelError("network: expected tensors of at most " + std::to_string(Shape::kMaxRank) + " dimensions, '" +
                     name + "' has " + std::to_string(partial.rank.max) + "; it is not a detector's");
  }
  Shape shape;
  for (std::int64_t axis = 0; axis < partial.rank.max; ++axis) {
    const ov_dimension_t dim = partial.dims[axis];
    shape.push_back(dim.min == dim.max ? dim.max : -1);
  }
  return shape;
}

/// The port's name in the file, or `fallback` for one without.
std::string name_of(const Library& library, const ov_output_const_port_t* port, std::string fallback) {
  char* text = nullptr;
  // A port without a name is an error to OpenVINO; there is no other way to ask.
  if (library.api().ov_port_get_any_name(port, &text) != ov_status_e::OK || text == nullptr) return fallback;
  std::string name = text;
  library.api().ov_free(text);
  return name.empty() ? fallback : name;
}

Shape shape_of(const Library& library, const ov_tensor_t* tensor) {
  const Api& api = library.api();
  ov_shape_t dims{};
  library.check(api.ov_tensor_get_shape(tensor, &dims), "tell the shape of an output");
  const std::int64_t rank = dims.rank;
  Shape shape;
  for (std::int64_t axis = 0; axis < rank; ++axis) shape.push_back(dims.dims[axis]);
  static_cast<void>(api.ov_shape_free(&dims));
  if (rank > static_cast<std::int64_t>(Shape::kMaxRank)) {
    throw BackendError("network: expected outputs of at most " + std::to_string(Shape::kMaxRank) +
                       " dimensions, got one of " + std::to_string(rank));
  }
  return shape;
}

/// `output_names`: the file's own, when known. OpenVINO gives any one of a tensor's names, and where a graph ends in an
/// Identity the tensor before it is the same to some releases.
Signature signature_of(const Library& library, const ov_model_t* model, const std::vector<std::string>& output_names) {
  const Api& api = library.api();
  const auto read = [&](auto count_ports, auto get_port, const char* kind) {
    std::size_t count = 0;
    library.check<ModelError>(count_ports(model, &count), std::string("count the ") + kind + "s of the network");
    std::vector<Port> ports;
    for (std::size_t i = 0; i < count; ++i) {
      const auto port =
          library.acquire<ModelError>(api.ov_output_const_port_free, std::string("find an ") + kind + " of the network",
                                      [&](ov_output_const_port_t** out) { return get_port(model, i, out); });
      std::string name = name_of(library, port.get(), std::string(kind) + "_" + std::to_string(i));
      const Shape shape = shape_of(library, port.get(), name).value_or(Shape{});
      ports.push_back({std::move(name), shape});
    }
    return ports;
  };
  Signature signature{read(api.ov_model_inputs_size, api.ov_model_const_input_by_index, "input"),
                      read(api.ov_model_outputs_size, api.ov_model_const_output_by_index, "output")};
  if (output_names.size() == signature.outputs.size()) {
    for (std::size_t i = 0; i < output_names.size(); ++i) {
      if (!output_names[i].empty()) signature.outputs[i].name = output_names[i];
    }
  }
  return signature;
}

// --- from bytes to a model ready to compile ---------------------------------------------------------------------

/// A network as read, and the names that its file gives to the outputs (empty where unknown).
struct ReadModel {
  Handle<ov_model_t> model;
  std::vector<std::string> output_names;
};

bool looks_like_xml(std::span<const std::byte> model) {
  const std::string_view text(reinterpret_cast<const char*>(model.data()), model.size());
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  const std::size_t start = text.find_first_not_of(" \t\r\n", text.starts_with(kByteOrderMark) ? 3 : 0);
  return start != std::string_view::npos && text[start] == '<';
}

/// Only the two formats that we promise reach OpenVINO, whose other readers would try anything.
std::vector<std::string> check_format(std::span<const std::byte> model, std::span<const std::byte> weights) {
  if (looks_like_xml(model)) return {};
  const auto scan = scan_onnx(model);
  if (!scan) {
    throw ModelError("network: expected an ONNX model or the XML of an OpenVINO IR, got " +
                     std::to_string(model.size()) + " bytes that are neither; is the file complete?");
  }
  if (scan->external_tensor) {
    throw ModelError("network: expected an ONNX model with its weights inside, but the data of '" +
                     *scan->external_tensor + "' is in another file; load it with onnx.load and save it as one file");
  }
  if (!weights.empty())
    throw ModelError("network: an ONNX model takes no separate weights; those of an IR came with it");
  return scan->outputs;
}

/// `weights` must outlive the model and everything made from it: the constants of an IR are not copied.
ReadModel read_model(const Library& library, const ov_core_t* core, std::span<const std::byte> model,
                     std::span<const std::byte> weights) {
  const Api& api = library.api();
  std::vector<std::string> output_names = check_format(model, weights);
  Handle<ov_tensor_t> tensor;
  if (!weights.empty()) {
    std::array<std::int64_t, 1> dims = {static_cast<std::int64_t>(weights.size())};
    const ov_shape_t shape{1, dims.data()};
    tensor = library.acquire(api.ov_tensor_free, "wrap the weights", [&](ov_tensor_t** out) {
      // The C API has no tensor of const data; OpenVINO only reads it.
      auto* const data = const_cast<std::byte*>(weights.data());  // NOLINT(cppcoreguidelines-pro-type-const-cast)
      return api.ov_tensor_create_from_host_ptr(library.types().i8, shape, data, out);
    });
  }
  auto read = library.acquire<ModelError>(api.ov_model_free, "read the model", [&](ov_model_t** out) {
    return api.ov_core_read_model_from_memory_buffer(core, reinterpret_cast<const char*>(model.data()), model.size(),
                                                     tensor.get(), out);
  });
  return {std::move(read), std::move(output_names)};
}

void reshape(const Library& library, const ov_model_t* model, const Shape& shape) {
  const Api& api = library.api();
  std::vector<ov_dimension_t> dims;
  for (const std::int64_t dim : shape) {
    if (dim == 0 || dim < -1) {
      throw InvalidArgument("input_shape: expected sizes of at least 1, or -1 for an open one, got " +
                            shape.to_string());
    }
    dims.push_back(dim < 0 ? ov_dimension_t{-1, -1} : ov_dimension_t{dim, dim});
  }
  ov_partial_shape_t partial{};
  library.check(api.ov_partial_shape_create(static_cast<std::int64_t>(dims.size()), dims.data(), &partial),
                "make the shape " + shape.to_string());
  const ov_status_e status = api.ov_model_reshape_single_input(model, partial);
  const std::string why = status == ov_status_e::OK ? std::string() : library.error_text(status);
  api.ov_partial_shape_free(&partial);
  if (status != ov_status_e::OK) {
    throw InvalidArgument("input_shape: the network cannot take " + shape.to_string() +
                          "; leave the shape to the file or choose another. OpenVINO says: " + why);
  }
}

void require_single_input(const Signature& signature) {
  if (signature.inputs.size() == 1) return;
  std::string text = "network: expected one input, the image; got " + std::to_string(signature.inputs.size());
  const char* separator = ": ";
  for (const Port& port : signature.inputs) {
    text += separator + ("'" + port.name + "' " + port.shape.to_string());
    separator = ", ";
  }
  throw ModelError(text + "; export the model without the others");
}

/// The same model with float32 at its edges: conversions are added where its own types are others.
Handle<ov_model_t> with_float32_edges(const Library& library, const ov_model_t* model, std::size_t num_outputs) {
  constexpr const char* kAction = "convert the network's inputs and outputs to float32";
  const Api& api = library.api();
  const ov_element_type_e f32 = library.types().f32;
  const auto edges = library.acquire<ModelError>(
      api.ov_preprocess_prepostprocessor_free, kAction,
      [&](ov_preprocess_prepostprocessor_t** out) { return api.ov_preprocess_prepostprocessor_create(model, out); });
  {
    const auto info =
        library.acquire<ModelError>(api.ov_preprocess_input_info_free, kAction, [&](ov_preprocess_input_info_t** out) {
          return api.ov_preprocess_prepostprocessor_get_input_info_by_index(edges.get(), 0, out);
        });
    const auto tensor = library.acquire<ModelError>(
        api.ov_preprocess_input_tensor_info_free, kAction, [&](ov_preprocess_input_tensor_info_t** out) {
          return api.ov_preprocess_input_info_get_tensor_info(info.get(), out);
        });
    library.check<ModelError>(api.ov_preprocess_input_tensor_info_set_element_type(tensor.get(), f32), kAction);
  }
  for (std::size_t i = 0; i < num_outputs; ++i) {
    const auto info = library.acquire<ModelError>(
        api.ov_preprocess_output_info_free, kAction, [&](ov_preprocess_output_info_t** out) {
          return api.ov_preprocess_prepostprocessor_get_output_info_by_index(edges.get(), i, out);
        });
    const auto tensor = library.acquire<ModelError>(
        api.ov_preprocess_output_tensor_info_free, kAction, [&](ov_preprocess_output_tensor_info_t** out) {
          return api.ov_preprocess_output_info_get_tensor_info(info.get(), out);
        });
    library.check<ModelError>(api.ov_preprocess_output_set_element_type(tensor.get(), f32), kAction);
  }
  return library.acquire<ModelError>(api.ov_model_free, kAction, [&](ov_model_t** out) {
    return api.ov_preprocess_prepostprocessor_build(edges.get(), out);
  });
}

// --- engine and session -----------------------------------------------------------------------------------------

using Bytes = std::vector<std::byte>;

class Engine final : public Backend, public std::enable_shared_from_this<Engine> {
 public:
  Engine(const Library& library, Bytes weights, Handle<ov_compiled_model_t> compiled, Signature signature)
      : library_(library),
        weights_(std::move(weights)),
        requests_(library, std::move(compiled)),
        signature_(std::move(signature)),
        preferred_sessions_(query_preferred_sessions()),
        inference_precision_(requests_.property("INFERENCE_PRECISION_HINT")) {}

  [[nodiscard]] const Port& input() const noexcept override { return signature_.inputs.front(); }
  [[nodiscard]] const std::vector<Port>& outputs() const noexcept override { return signature_.outputs; }
  [[nodiscard]] int preferred_sessions() const noexcept override { return preferred_sessions_; }
  [[nodiscard]] std::string description() const override {
    return "OpenVINO " + library_.version() + " " + kDevice + " " + inference_precision_;
  }
  [[nodiscard]] std::unique_ptr<BackendSession> create_session(const Shape& shape) const override;

  /// What the plugin computes in, which need not be what it was asked for.
  [[nodiscard]] const std::string& inference_precision() const noexcept { return inference_precision_; }

  [[nodiscard]] const Library& library() const noexcept { return library_; }
  /// Shared by all sessions, which know the engine as const.
  [[nodiscard]] Requests& requests() const noexcept { return requests_; }

 private:
  [[nodiscard]] int query_preferred_sessions() const {
    const std::string digits = requests_.property("OPTIMAL_NUMBER_OF_INFER_REQUESTS");
    int number = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return std::max(number, 1);
  }

  const Library& library_;  // never unloaded
  Bytes weights_;           // before requests_: the constants of the compiled network may point here
  mutable Requests requests_;
  Signature signature_;
  int preferred_sessions_;
  std::string inference_precision_;
};

class Session final : public BackendSession {
 public:
  Session(std::shared_ptr<const Engine> engine, const Shape& shape)
      : engine_(std::move(engine)),
        library_(engine_->library()),
        input_(shape),
        reusable_(!engine_->input().shape.is_static()) {
    const std::vector<Port>& ports = engine_->outputs();
    outputs_.resize(ports.size());
    views_.resize(ports.size());
    input_tensor_ = wrap(input_);
    request_ = engine_->requests().take();
    for (std::size_t i = 0; i < ports.size(); ++i) {
      // Only a network that is static from end to end promises the shape of its outputs; an empty shape may also
      // stand for one whose rank is open.
      if (engine_->input().shape.is_static() && ports[i].shape.is_static() && ports[i].shape.rank() != 0) {
        provide_output(i, ports[i]);
      }
    }
    set_input();
    if (!writes_in_place()) {
      // An output that is also the input or another output: OpenVINO 2025.0 takes them for one port, so that the
      // tensors set above replaced one another. Start again and let the engine place them all.
      request_ = engine_->requests().take();
      for (Output& output : outputs_) output = Output{};
      set_input();
    }
  }

  ~Session() override {
    // A run in flight writes into our buffers. What it reports no longer interests anyone.
    if (running_ && library_.in_own_process()) {
      static_cast<void>(library_.api().ov_infer_request_wait(request_.get()));
      engine_->requests().ended(request_.get());
      reusable_ = false;
    }
    if (reusable_) engine_->requests().give_back(std::move(request_));
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] MutableTensorView input() override { return {input_.data(), input_.shape()}; }

  void start() override {
    library_.check_process();
    engine_->requests().start(request_.get());
    running_ = true;
  }

  void wait() override {
    if (!running_) return;
    library_.check_process();
    const ov_status_e status = library_.api().ov_infer_request_wait(request_.get());
    running_ = false;
    engine_->requests().ended(request_.get());
    reusable_ = reusable_ && status == ov_status_e::OK;
    library_.check(status, "run the network");
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (!outputs_[i].own) locate(i);
    }
  }

  [[nodiscard]] bool wait_for(std::chrono::milliseconds patience) override {
    if (running_) {
      library_.check_process();
      const auto begin = std::chrono::steady_clock::now();
      const ov_status_e status = library_.api().ov_infer_request_wait_for(request_.get(), patience.count());
      // The C API does not tell that time is up: a wait that took all of it is asked again, and then ends at once.
      if (status == ov_status_e::RESULT_NOT_READY || std::chrono::steady_clock::now() - begin >= patience) return false;
    }
    wait();
    return true;
  }

  void cancel() noexcept override {
    if (running_ && library_.in_own_process()) {
      static_cast<void>(library_.api().ov_infer_request_cancel(request_.get()));
    }
  }

  [[nodiscard]] std::span<const TensorView> outputs() const override { return views_; }

 private:
  struct Output {
    std::optional<AlignedBuffer> own;  ///< ours where the shape is known beforehand, else the engine's
    Handle<ov_tensor_t> tensor;
  };

  [[nodiscard]] Handle<ov_tensor_t> wrap(const AlignedBuffer& buffer) const {
    const Api& api = library_.api();
    const Shape& shape = buffer.shape();
    std::array<std::int64_t, Shape::kMaxRank> dims{};
    std::copy(shape.begin(), shape.end(), dims.begin());
    const ov_shape_t ov_shape{static_cast<std::int64_t>(shape.rank()), dims.data()};
    return library_.acquire(api.ov_tensor_free, "wrap a tensor " + shape.to_string(), [&](ov_tensor_t** out) {
      return api.ov_tensor_create_from_host_ptr(library_.types().f32, ov_shape, buffer.data(), out);
    });
  }

  void set_input() {
    library_.check(library_.api().ov_infer_request_set_input_tensor_by_index(request_.get(), 0, input_tensor_.get()),
                   "set the input " + input_.shape().to_string());
  }

  /// Has the engine write output `i` into memory of ours.
  void provide_output(std::size_t i, const Port& port) {
    outputs_[i].own.emplace(port.shape);
    outputs_[i].tensor = wrap(*outputs_[i].own);
    library_.check(
        library_.api().ov_infer_request_set_output_tensor_by_index(request_.get(), i, outputs_[i].tensor.get()),
        "set the output '" + port.name + "'");
  }

  [[nodiscard]] bool writes_in_place() {
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (!outputs_[i].own) continue;
      locate(i);
      if (views_[i].data != outputs_[i].own->data()) return false;
    }
    return true;
  }

  /// Finds where the engine puts output `i`, and in which shape.
  void locate(std::size_t i) {
    const Api& api = library_.api();
    constexpr const char* kAction = "hand out an output";
    outputs_[i].tensor = library_.acquire(api.ov_tensor_free, kAction, [&](ov_tensor_t** out) {
      return api.ov_infer_request_get_output_tensor_by_index(request_.get(), i, out);
    });
    void* data = nullptr;
    library_.check(api.ov_tensor_data(outputs_[i].tensor.get(), &data), kAction);
    views_[i] = {static_cast<const float*>(data), shape_of(library_, outputs_[i].tensor.get())};
  }

  std::shared_ptr<const Engine> engine_;  // first: outlives the request
  const Library& library_;
  AlignedBuffer input_;
  Handle<ov_tensor_t> input_tensor_;
  std::vector<Output> outputs_;
  std::vector<TensorView> views_;
  Handle<ov_infer_request_t> request_;  // last: gone before the memory that it uses
  bool running_ = false;
  bool reusable_;  ///< the request, by another session: nothing failed in it, and its outputs are the engine's
};

std::unique_ptr<BackendSession> Engine::create_session(const Shape& shape) const {
  check_session_shape(input(), shape);
  library_.check_process();
  return std::make_unique<Session>(shared_from_this(), shape);
}

// --- runtime ----------------------------------------------------------------------------------------------------

class LoadedRuntime final : public Runtime {
 public:
  explicit LoadedRuntime(const std::filesystem::path& library_dir)
      : library_(library_dir),
        core_(library_.acquire<BackendUnavailable>(library_.api().ov_core_free, "start",
                                                   library_.api().ov_core_create)) {}

  [[nodiscard]] std::string version() const override { return library_.version(); }

  [[nodiscard]] std::vector<std::string> devices() const override {
    library_.check_process();
    ov_available_devices_t list{};
    library_.check(library_.api().ov_core_get_available_devices(core_.get(), &list), "list its devices");
    std::vector<std::string> names(list.devices, list.devices + list.size);
    library_.api().ov_available_devices_free(&list);
    return names;
  }

  [[nodiscard]] Signature inspect(std::span<const std::byte> model, std::span<const std::byte> weights,
                                  const Shape& input_shape) override {
    library_.check_process();
    const auto read = read_model(library_, core_.get(), model, weights);
    return shaped_signature(read, input_shape);
  }

  [[nodiscard]] std::shared_ptr<const Backend> compile(std::span<const std::byte> model,
                                                       std::span<const std::byte> weights,
                                                       const CompileOptions& options) override {
    library_.check_process();
    check_options(options);
    Bytes kept(weights.begin(), weights.end());
    const auto read = read_model(library_, core_.get(), model, kept);
    Signature signature = shaped_signature(read, options.input_shape);
    require_single_input(signature);
    const auto edged = with_float32_edges(library_, read.model.get(), signature.outputs.size());
    auto compiled = compile(edged.get(), options);
    auto engine = std::make_shared<const Engine>(library_, std::move(kept), std::move(compiled), std::move(signature));
    // The plugin takes any hint and then computes in what the processor has; we refuse what it would replace.
    if (engine->inference_precision() != options.inference_precision) {
      throw BackendUnavailable("precision: on this processor OpenVINO computes '" + engine->inference_precision() +
                               "' where '" + options.inference_precision + "' is asked for; ask for '" +
                               engine->inference_precision() + "' or for 'f32'");
    }
    return engine;
  }

 private:
  static void check_options(const CompileOptions& options) {
    constexpr std::array<std::string_view, 3> kPrecisions = {"f32", "bf16", "f16"};
    if (std::find(kPrecisions.begin(), kPrecisions.end(), options.inference_precision) == kPrecisions.end()) {
      throw InvalidArgument("inference_precision: expected 'f32', 'bf16' or 'f16', got '" +
                            options.inference_precision + "'");
    }
    if (options.num_threads < 0) {
      throw InvalidArgument("num_threads: expected 0 (the engine's choice) or more, got " +
                            std::to_string(options.num_threads));
    }
  }

  [[nodiscard]] Signature shaped_signature(const ReadModel& read, const Shape& input_shape) const {
    Signature signature = signature_of(library_, read.model.get(), read.output_names);
    if (input_shape.rank() == 0) return signature;
    require_single_input(signature);
    reshape(library_, read.model.get(), input_shape);
    return signature_of(library_, read.model.get(), read.output_names);
  }

  [[nodiscard]] Handle<ov_compiled_model_t> compile(const ov_model_t* model, const CompileOptions& options) const {
    const Api& api = library_.api();
    const char* const hint = options.performance == Performance::kLatency ? "LATENCY" : "THROUGHPUT";
    const std::string threads = std::to_string(options.num_threads);
    const std::string cache_dir = options.cache_dir.string();
    constexpr std::size_t kArguments = 8;
    return library_.acquire(api.ov_compiled_model_free, "compile the network", [&](ov_compiled_model_t** out) {
      // 0 threads and an empty cache folder are the plugin's own defaults.
      return api.ov_core_compile_model(core_.get(), model, kDevice, kArguments, out,                     //
                                       "PERFORMANCE_HINT", hint,                                         //
                                       "INFERENCE_PRECISION_HINT", options.inference_precision.c_str(),  //
                                       "INFERENCE_NUM_THREADS", threads.c_str(),                         //
                                       "CACHE_DIR", cache_dir.c_str());
    });
  }

  Library library_;
  Handle<ov_core_t> core_;
};

}  // namespace

std::shared_ptr<Runtime> Runtime::load(const std::filesystem::path& library_dir) {
  // Leaked on purpose: a static destructor could run after OpenVINO's own, and would then free into a library that has
  // already ended. The process's end frees it as well.
  static auto& mutex = *new std::mutex;
  static auto& runtimes = *new std::map<std::filesystem::path, std::shared_ptr<Runtime>>;
  std::error_code error;
  std::filesystem::path folder = std::filesystem::canonical(library_dir, error);
  if (error) folder = library_dir;  // loading it says what is wrong
  const std::lock_guard lock(mutex);
  std::shared_ptr<Runtime>& runtime = runtimes[folder];
  if (!runtime) runtime = std::make_shared<LoadedRuntime>(folder);
  return runtime;
}

}  // namespace swiftdet::openvino
