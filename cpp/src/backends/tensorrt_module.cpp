// The only file that is compiled against TensorRT's headers; becomes libswiftdet_trt<major>.so.
#include "backends/tensorrt_module.hpp"

#include <NvInferRuntime.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "swiftdet/base/error.hpp"

namespace swiftdet::tensorrt {
namespace {

swiftdet::Severity as_severity(nvinfer1::ILogger::Severity severity) {
  switch (severity) {
    case nvinfer1::ILogger::Severity::kINTERNAL_ERROR:
    case nvinfer1::ILogger::Severity::kERROR: return Severity::kError;
    case nvinfer1::ILogger::Severity::kWARNING: return Severity::kWarning;
    default: return Severity::kInfo;
  }
}

/// TensorRT reports what went wrong to its logger and returns false; this keeps the last errors for our exceptions.
// Not run in tests: the destructor for `delete`; a logger is always a member.
class Logger final : public nvinfer1::ILogger {
 public:
  explicit Logger(LogSink sink) : sink_(sink) {}

  void log(Severity severity, const char* text) noexcept override {
    if (severity == Severity::kVERBOSE) return;
    const swiftdet::Severity ours = as_severity(severity);
    sink_(ours, text);
    if (ours != swiftdet::Severity::kError) return;
    try {
      const std::lock_guard lock(mutex_);
      ++count_;
      if (errors_.size() == kKept) errors_.erase(errors_.begin());
      errors_.emplace_back(text);
    } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory for a message; the failure itself is still reported
    }
  }

  [[nodiscard]] std::uint64_t count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }

  /// The errors since `count()` was `before`, as ": text; text"; empty if there was none.
  [[nodiscard]] std::string since(std::uint64_t before) const {
    const std::lock_guard lock(mutex_);
    const auto fresh = std::min<std::uint64_t>(count_ - before, errors_.size());
    std::string text;
    for (std::size_t i = errors_.size() - fresh; i < errors_.size(); ++i)
      text += (text.empty() ? ": " : "; ") + errors_[i];
    return text;
  }

 private:
  static constexpr std::size_t kKept = 4;
  LogSink sink_;
  mutable std::mutex mutex_;
  std::vector<std::string> errors_;
  std::uint64_t count_ = 0;
};

Shape as_shape(const nvinfer1::Dims& dims) {
  Shape shape;
  for (std::int32_t axis = 0; axis < dims.nbDims; ++axis) shape.push_back(dims.d[axis]);
  return shape;
}

nvinfer1::Dims as_dims(const Shape& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<std::int32_t>(shape.rank());
  std::copy(shape.begin(), shape.end(), static_cast<std::int64_t*>(dims.d));
  return dims;
}

bool within(std::int64_t value, std::int64_t least, std::int64_t most) { return value >= least && value <= most; }

class Context final : public GpuContext {
 public:
  Context(std::unique_ptr<nvinfer1::IExecutionContext> context, const GpuPort& input,
          const std::vector<GpuPort>& outputs, const Logger& logger, const Shape& shape, std::int32_t profile,
          cuda::StreamHandle stream)
      : context_(std::move(context)), input_(input), outputs_(outputs), logger_(logger) {
    const std::uint64_t before = logger_.count();
    if (profile != 0)
      expect(context_->setOptimizationProfileAsync(profile, stream), "setOptimizationProfileAsync", before);
    expect(context_->setInputShape(input_.name.c_str(), as_dims(shape)), "setInputShape", before);
    for (const GpuPort& port : outputs_) {
      const nvinfer1::Dims dims = context_->getTensorShape(port.name.c_str());
      if (dims.nbDims < 0 || static_cast<std::size_t>(dims.nbDims) > Shape::kMaxRank || !as_shape(dims).is_static()) {
        throw ModelError("output '" + port.name + "' has no fixed shape for an input of " + shape.to_string() +
                         "; networks whose output depends on what they see are not supported" + logger_.since(before));
      }
      shapes_.push_back(as_shape(dims));
    }
  }

  [[nodiscard]] const std::vector<Shape>& output_shapes() const noexcept override { return shapes_; }

  void set_input_address(void* d_input) override {
    const std::uint64_t before = logger_.count();
    expect(context_->setInputTensorAddress(input_.name.c_str(), d_input), "setInputTensorAddress", before);
  }

  void set_output_address(std::size_t index, void* d_output) override {
    const std::uint64_t before = logger_.count();
    expect(context_->setOutputTensorAddress(outputs_[index].name.c_str(), d_output), "setOutputTensorAddress", before);
  }

  void enqueue(cuda::StreamHandle stream) override {
    const std::uint64_t before = logger_.count();
    expect(context_->enqueueV3(stream), "enqueueV3", before);
  }

 private:
  void expect(bool done, const char* call, std::uint64_t before) const {
    if (!done) throw BackendError(std::string("TensorRT: ") + call + " failed" + logger_.since(before));
  }

  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  const GpuPort& input_;
  const std::vector<GpuPort>& outputs_;
  const Logger& logger_;
  std::vector<Shape> shapes_;
};

class Engine final : public GpuEngine {
 public:
  Engine(std::unique_ptr<nvinfer1::ICudaEngine> engine, const Logger& logger, int device, std::string description)
      : engine_(std::move(engine)), logger_(logger), device_(device), description_(std::move(description)) {
    std::vector<GpuPort> inputs;
    for (std::int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
      const char* const name = engine_->getIOTensorName(i);
      const bool is_input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
      (is_input ? inputs : outputs_).push_back(read_port(name));
    }
    if (inputs.size() != 1 || outputs_.empty()) {
      throw ModelError("expected a network with one input and at least one output, got " +
                       std::to_string(inputs.size()) + " and " + std::to_string(outputs_.size()));
    }
    input_ = std::move(inputs.front());
    if (input_.shape.rank() != 4 || input_.shape[1] != 3) {
      throw ModelError("expected an image input [N, 3, H, W], got '" + input_.name + "' " + input_.shape.to_string());
    }
    using Select = nvinfer1::OptProfileSelector;
    for (std::int32_t i = 0; i < engine_->getNbOptimizationProfiles(); ++i) {
      profiles_.push_back({as_shape(engine_->getProfileShape(input_.name.c_str(), i, Select::kMIN)),
                           as_shape(engine_->getProfileShape(input_.name.c_str(), i, Select::kMAX))});
    }
  }

  [[nodiscard]] int device() const noexcept override { return device_; }
  [[nodiscard]] const GpuPort& input() const noexcept override { return input_; }
  [[nodiscard]] const std::vector<GpuPort>& outputs() const noexcept override { return outputs_; }
  [[nodiscard]] std::string description() const override { return description_; }
  [[nodiscard]] std::size_t context_bytes() const noexcept override {
    return static_cast<std::size_t>(std::max<std::int64_t>(engine_->getDeviceMemorySizeV2(), 0));
  }

  [[nodiscard]] BatchRange batch_range(Size size) const noexcept override {
    BatchRange range;
    for (const Profile& profile : profiles_) {
      if (!within(size.height, profile.least[2], profile.most[2]) ||
          !within(size.width, profile.least[3], profile.most[3])) {
        continue;
      }
      range.least = range.most == 0 ? profile.least[0] : std::min(range.least, profile.least[0]);
      range.most = std::max(range.most, profile.most[0]);
    }
    return range;
  }

  [[nodiscard]] std::vector<Profile> profiles() const override { return profiles_; }

  [[nodiscard]] std::unique_ptr<GpuContext> create_context(const Shape& shape,
                                                           cuda::StreamHandle stream) const override {
    const std::int32_t profile = profile_for(shape);
    const std::uint64_t before = logger_.count();
    std::unique_ptr<nvinfer1::IExecutionContext> context;
    {
      const std::lock_guard lock(mutex_);  // TensorRT does not promise that an engine may be asked from two threads
      context.reset(engine_->createExecutionContext());
    }
    if (context == nullptr) throw BackendError("TensorRT: createExecutionContext failed" + logger_.since(before));
    return std::make_unique<Context>(std::move(context), input_, outputs_, logger_, shape, profile, stream);
  }

 private:
  [[nodiscard]] GpuPort read_port(const char* name) const {
    const nvinfer1::DataType type = engine_->getTensorDataType(name);
    const Shape shape = as_shape(engine_->getTensorShape(name));
    if (type != nvinfer1::DataType::kFLOAT && type != nvinfer1::DataType::kHALF) {
      throw ModelError(std::string("tensor '") + name + "' " + shape.to_string() +
                       ": expected float32 or float16; integer outputs belong to exports with their own suppression: "
                       "export the network without it");
    }
    if (engine_->getTensorLocation(name) != nvinfer1::TensorLocation::kDEVICE ||
        engine_->getTensorFormat(name) != nvinfer1::TensorFormat::kLINEAR) {
      // Not run in tests: the stand-in has plain tensors alone.
      throw ModelError(std::string("tensor '") + name +
                       "': expected a plain tensor in device memory; build the engine "
                       "without reduced input and output formats");
    }
    return {name, shape, type == nvinfer1::DataType::kFLOAT ? GpuElement::kFloat32 : GpuElement::kFloat16};
  }

  [[nodiscard]] std::int32_t profile_for(const Shape& shape) const {
    for (std::size_t i = 0; i < profiles_.size(); ++i) {
      bool fits = shape.rank() == profiles_[i].least.rank();
      for (std::size_t axis = 0; fits && axis < shape.rank(); ++axis) {
        fits = within(shape[axis], profiles_[i].least[axis], profiles_[i].most[axis]);
      }
      if (fits) return static_cast<std::int32_t>(i);
    }
    std::string ranges;
    for (const Profile& profile : profiles_) {
      ranges += (ranges.empty() ? "" : ", ") + profile.least.to_string() + " to " + profile.most.to_string();
    }
    throw InvalidArgument("the engine was built for inputs of " + ranges + ", got " + shape.to_string() +
                          "; build it with a profile that holds this shape");
  }

  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  const Logger& logger_;
  int device_;
  std::string description_;
  GpuPort input_;
  std::vector<GpuPort> outputs_;
  std::vector<Profile> profiles_;
  mutable std::mutex mutex_;
};

class TensorRtModule final : public Module {
 public:
  TensorRtModule(const Library& library, LogSink sink) : logger_(sink), version_(library.version) {
    const std::uint64_t before = logger_.count();
    runtime_.reset(static_cast<nvinfer1::IRuntime*>(library.create_runtime(&logger_, NV_TENSORRT_VERSION)));
    if (runtime_ == nullptr) throw BackendError("TensorRT " + version_ + " does not start" + logger_.since(before));
    runtime_->setEngineHostCodeAllowed(false);
  }

  [[nodiscard]] std::unique_ptr<const GpuEngine> deserialize(std::span<const std::byte> plan, int device,
                                                             const std::string& device_name) override {
    const std::uint64_t before = logger_.count();
    std::unique_ptr<nvinfer1::ICudaEngine> engine;
    {
      const std::lock_guard lock(mutex_);
      engine.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    }
    if (engine == nullptr) {
      throw ModelError("TensorRT " + version_ + " cannot read this plan" + logger_.since(before) +
                       ". Plans fit the TensorRT and the GPU that they were built with, and those with plugins are not "
                       "supported: build it again on this machine");
    }
    return std::make_unique<Engine>(
        std::move(engine), logger_, device,
        "TensorRT " + version_ + ", " + device_name + " (cuda:" + std::to_string(device) + ")");
  }

 private:
  Logger logger_;
  std::string version_;
  std::mutex mutex_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
};

}  // namespace
}  // namespace swiftdet::tensorrt

extern "C" __attribute__((visibility("default"))) void swiftdet_open_tensorrt_module(
    const swiftdet::tensorrt::Library& library, swiftdet::tensorrt::LogSink sink,
    std::unique_ptr<swiftdet::tensorrt::Module>& module) {
  module = std::make_unique<swiftdet::tensorrt::TensorRtModule>(library, sink);
}
